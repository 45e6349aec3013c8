"""A frozen config from JSON, every field checked against its annotation."""

import contextlib
import dataclasses
import types
import typing
from typing import Any, cast


def decoded(value: Any, hint: Any, name: str) -> Any:
    """A value of a frozen config from JSON, checked against its annotation.

    Raises:
        ValueError: if it does not fit, naming the field.
    """
    if dataclasses.is_dataclass(hint):
        return _dataclass(value, cast(type, hint), name)
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for option in options:
            with contextlib.suppress(ValueError):
                return decoded(value, option, name)
    elif origin is tuple and isinstance(value, list):
        inner = [options[0]] * len(value) if options[1:] == (...,) else list(options)
        if len(inner) == len(value):
            pairs = zip(value, inner, strict=True)
            return tuple(decoded(entry, kind, f"{name}[{number}]") for number, (entry, kind) in enumerate(pairs))
    elif origin is typing.Literal:
        if any(type(value) is type(option) and value == option for option in options):
            return value
    elif hint is Any or (isinstance(hint, type) and _fits(value, hint)):
        return float(value) if hint is float else value
    raise ValueError(f"{name} must be {getattr(hint, '__name__', hint)}; got {value!r:.80}")


def _dataclass(value: Any, hint: type, name: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be the fields of a {hint.__name__}; got {type(value).__name__}")
    names = {field.name for field in dataclasses.fields(hint)}
    if set(value) != names:
        unknown, missing = sorted(set(value) - names), sorted(names - set(value))
        raise ValueError(f"{name} of a {hint.__name__} has unknown fields {unknown} and lacks {missing}")
    hints = typing.get_type_hints(hint)
    return hint(**{key: decoded(entry, hints[key], f"{name}.{key}") for key, entry in value.items()})


def _fits(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)
