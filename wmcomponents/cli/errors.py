"""Errors of the command line."""

import ast
import dataclasses
from collections.abc import Sequence
from typing import Any


class UsageError(ValueError):
    """The arguments make no sense together; nothing was begun."""


def known_family(family: str, preset: str, changes: Sequence[str] = ()) -> None:
    """Refuse a family, a preset or a change of its config that does not exist.

    Raises:
        UsageError: naming those that do.
    """
    from wmcomponents.models import MODELS, presets

    if family not in MODELS:
        raise UsageError(f"--family is one of {', '.join(MODELS)}; got {family!r}.")
    if preset not in presets(family):
        raise UsageError(f"--preset of {family} is one of {', '.join(presets(family))}; got {preset!r}.")
    entries = [field.name for field in dataclasses.fields(MODELS[family].config_class)]
    unknown = [name for name in changed(changes) if name not in entries]
    if unknown:
        raise UsageError(f"--changes of {family} name {', '.join(entries)}; got {', '.join(unknown)}.")


def changed(changes: Sequence[str]) -> dict[str, Any]:
    """Entries of a config from ``name=value``, where a value is a Python literal or else a string.

    Raises:
        UsageError: for a change that is not so written.
    """
    found: dict[str, Any] = {}
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals or not name:
            raise UsageError(f"--changes are written name=value; got {change!r}.")
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[name] = value
    return found


def at_least(minimum: int, **counts: int) -> None:
    """Refuse counts that are too small.

    Raises:
        UsageError: naming the option.
    """
    for name, count in counts.items():
        if count < minimum:
            raise UsageError(f"--{name.replace('_', '-')} is at least {minimum}; got {count}.")
