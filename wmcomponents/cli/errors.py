"""Errors of the command line."""

import ast
import difflib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from wmcomponents._folder_kinds import data_fault, model_fault
from wmcomponents.cli.console import processes
from wmcomponents.cli.families import PRESETS, PRETRAINING


class UsageError(ValueError):
    """The arguments make no sense together; nothing was begun."""


class WrongFolderError(ValueError):
    """A path is not the folder that its option asks for."""


def check_folders(*, model: Path | None = None, data: Iterable[Path | None] = ()) -> None:
    """Refuse paths that lead to no saved model or no data, before anything heavy is imported.

    Args:
        model: what should be a saved model.
        data: what should be data folders.

    Raises:
        WrongFolderError: telling what stands there.
    """
    faults = [data_fault(path) for path in data if path is not None]
    if model is not None:
        faults.insert(0, model_fault(model))
    for fault in faults:
        if fault:
            raise WrongFolderError(fault)


def known_family(family: str, preset: str, changes: Sequence[str] = (), *, encoders: bool = False) -> None:
    """Refuse a family, a preset or a change of its config that does not exist.

    Args:
        family: its name.
        preset: its preset.
        changes: of its config, as they were given.
        encoders: whether what pretrains an encoder will do too.

    Raises:
        UsageError: naming those that do.
    """
    known = _families()
    if encoders:
        known = {**known, **_families(encoders=True)}
    elif family in _families(encoders=True):
        raise UsageError(
            f"--family {family} has no time and no actions: nobody can act or dream in it. Its encoder becomes part of "
            f"a world; `wmc train --family {family}` trains it."
        )
    if family not in known:
        raise UsageError(f"--family is one of {', '.join(known)}; got {family!r}.{meant(family, known)}")
    if preset not in known[family]:
        raise UsageError(
            f"--preset of {family} is one of {', '.join(known[family])}; got {preset!r}.{meant(preset, known[family])}"
        )
    names = list(changed(changes))
    if not names:
        return
    from wmcomponents import models
    from wmcomponents.pretrained.config import check_config

    kind = {**models.families(), **models.PRETRAINING}[family].config_class
    try:
        check_config(getattr(kind, preset)(**changed(changes)), kind, family)
    except (TypeError, ValueError) as error:
        raise UsageError(f"--changes: {error}") from error


def _families(encoders: bool = False) -> dict[str, tuple[str, ...]]:
    """Presets by family: those in memory, which a user may have added to, else those that are known by name."""
    models = sys.modules.get("wmcomponents.models")
    if models is None:
        return PRETRAINING if encoders else PRESETS
    return {family: models.presets(family) for family in (models.PRETRAINING if encoders else models.families())}


def in_one_process(what: str) -> None:
    """Refuse several processes, as `torchrun` starts them, where each would do the same work.

    Args:
        what: the work.

    Raises:
        UsageError: if there are several.
    """
    if processes() > 1:
        raise UsageError(f"{what} is the work of one process: start it without torchrun.")


def meant(given: str, known: Iterable[str]) -> str:
    """The question whether another name was meant, with a space before it; empty if none is close."""
    by_letters = {name.lower().replace("-", "").replace("_", ""): name for name in known}
    plain = given.lower().replace("-", "").replace("_", "")
    close = difflib.get_close_matches(plain, by_letters, n=1, cutoff=0.55)
    return f" Did you mean {by_letters[close[0]]!r}?" if close else ""


def changed(changes: Sequence[str], option: str = "--changes") -> dict[str, Any]:
    """Entries from ``name=value``, where a value is a Python literal or else a string.

    Args:
        changes: as they were given.
        option: by which option.

    Raises:
        UsageError: for a change that is not so written.
    """
    found: dict[str, Any] = {}
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals or not name:
            raise UsageError(f"{option} are written name=value; got {change!r}.")
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
