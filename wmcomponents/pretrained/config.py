"""A frozen config from JSON, every field checked against its annotation."""

import contextlib
import dataclasses
import types
import typing
from collections.abc import Iterator
from typing import Any, cast


def decoded(value: Any, hint: Any, name: str, missing: list[str] | None = None) -> Any:
    """A value of a frozen config from JSON, checked against its annotation.

    Args:
        value: what the JSON holds.
        hint: the annotation.
        name: of the value, for the errors.
        missing: receives the names of fields that are not there and have a default, which is taken: a config that was
            written before the field existed.

    Raises:
        ValueError: if it does not fit, naming the field.
    """
    missing = [] if missing is None else missing
    if dataclasses.is_dataclass(hint):
        return _dataclass(value, cast(type, hint), name, missing)
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _union(value, hint, name, missing)
    if origin is tuple:
        return _tuple(value, hint, name, missing)
    if origin is typing.Literal:
        fits = any(type(value) is type(option) and value == option for option in options)
    else:
        fits = hint is Any or (isinstance(hint, type) and _fits(value, hint))
    if not fits:
        raise ValueError(f"{name} must be {_words(hint)}; got {value!r:.80}")
    return float(value) if hint is float else value


def _tuple(value: Any, hint: Any, name: str, missing: list[str]) -> tuple[Any, ...]:
    """Entries of a tuple, which JSON holds as a list."""
    options = typing.get_args(hint)
    inner = [options[0]] * len(value) if isinstance(value, list) and options[1:] == (...,) else list(options)
    if not isinstance(value, list) or len(inner) != len(value):
        raise ValueError(f"{name} must be {_words(hint)}; got {value!r:.80}")
    pairs = enumerate(zip(value, inner, strict=True))
    return tuple(decoded(entry, kind, f"{name}[{number}]", missing) for number, (entry, kind) in pairs)


def _union(value: Any, hint: Any, name: str, missing: list[str]) -> Any:
    """A value that one of several annotations fits."""
    options = typing.get_args(hint)
    nested = [option for option in options if dataclasses.is_dataclass(option)]
    if isinstance(value, dict) and len(nested) == 1:  # its own words say more than that no option fits
        return decoded(value, nested[0], name, missing)
    for option in options:
        with contextlib.suppress(ValueError):
            return decoded(value, option, name, missing)
    raise ValueError(f"{name} must be {_words(hint)}; got {value!r:.80}")


def _words(hint: Any) -> str:
    """An annotation as a user reads it."""
    options = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return f"one of {', '.join(map(repr, options))}"
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(map(_words, options))
    if hint is type(None):
        return "None"
    plain = {int: "a whole number", float: "a number", str: "a string", bool: "True or False"}
    return plain.get(hint) or (str(hint) if options else getattr(hint, "__name__", str(hint)))


def check_config(config: Any, kind: type, family: str) -> None:
    """Refuse a config that no model of the family can be built from, before anything is.

    Args:
        config: what a user gave.
        kind: the family's config class.
        family: its name, for the errors.

    Raises:
        TypeError: if it is no ``kind``.
        ValueError: if a field is not of the kind that its annotation says, or a whole number is negative: all of them
            count something.
    """
    if not isinstance(config, kind):
        got = f"the class {config.__name__}" if isinstance(config, type) else f"a {type(config).__name__}"
        raise TypeError(
            f"{family} is built from a {kind.__name__}, such as {kind.__name__}.tiny(), or from the name of a preset; "
            f"got {got}."
        )
    decoded(_as_json(config), kind, kind.__name__)
    negative = [f"{name}={value}" for name, value in _whole_numbers(config, kind.__name__) if value < 0]
    if negative:
        raise ValueError(f"whole numbers in a config count something and are at least 0; got {', '.join(negative)}.")


def _as_json(value: Any) -> Any:
    """Dataclasses as dicts and tuples as lists, as JSON would give them back."""
    if dataclasses.is_dataclass(value):
        return {field.name: _as_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return [_as_json(entry) for entry in value] if isinstance(value, tuple) else value


def _whole_numbers(value: Any, name: str) -> Iterator[tuple[str, int]]:
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _whole_numbers(getattr(value, field.name), f"{name}.{field.name}")
    elif isinstance(value, tuple):
        for number, entry in enumerate(value):
            yield from _whole_numbers(entry, f"{name}[{number}]")
    elif isinstance(value, int):
        yield name, value


def _dataclass(value: Any, hint: type, name: str, missing: list[str]) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be the fields of a {hint.__name__}; got {type(value).__name__}")
    fields = {field.name: field for field in dataclasses.fields(hint)}
    lacking = [key for key in fields if key not in value]
    needed = [key for key in lacking if not _has_default(fields[key])]
    unknown = sorted(set(value) - set(fields))
    if unknown or needed:
        raise ValueError(
            f"{name} of a {hint.__name__} has unknown fields {unknown} and lacks {needed}: what another version of "
            f"wmcomponents wrote is read by that version; pip install -U wmcomponents"
        )
    missing += [f"{name}.{key}" for key in lacking]
    hints = typing.get_type_hints(hint)
    return hint(**{key: decoded(entry, hints[key], f"{name}.{key}", missing) for key, entry in value.items()})


def _has_default(field: Any) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _fits(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)
