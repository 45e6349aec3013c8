"""What a page may ask for: one JSON object a message, looked at entry by entry before anything is done."""

import json
from typing import Any, NamedTuple

from wmcomponents.play.errors import PlayError

LONGEST = 8192
"""Characters of a command."""

LARGEST = 2**53
"""Whole numbers are below it: a page's numbers are floats."""

STARTS = ("saved", "data", "reality", "prior")
FORMATS = ("gif", "webp", "mp4", "data", "real data")

# By command: its entries, each with the kinds of values it takes; those that may be left out take None.
_WHOLE: tuple[Any, ...] = (int,)
_SCHEMA: dict[str, dict[str, tuple[Any, ...]]] = {
    "step": {"action": (int, list), "luck": (bool, None)},
    "go": {"step": _WHOLE},
    "fork": {},
    "switch": {"branch": _WHOLE},
    "remove": {"branch": _WHOLE},
    "begin": {"kind": STARTS, "number": (int, None), "seed": (int, None)},
    "overlay": {"saliency": (bool,)},
    "save": {"as": FORMATS},
    "drive": {},
}


class BadCommandError(PlayError):
    """A message is no command; nothing was done."""


class Command(NamedTuple):
    """What was asked for.

    Attributes:
        name: one of the commands.
        entries: its entries; those left out are ``None``.
        id: a number of the page's own, that comes back with the answer; 0 if it gave none.
    """

    name: str
    entries: dict[str, Any]
    id: int


def read_command(text: str) -> Command:
    """A command from a message.

    Raises:
        BadCommandError: saying what was expected.

    Example:
        >>> read_command('{"do": "go", "step": 3}')
        Command(name='go', entries={'step': 3}, id=0)
    """
    if len(text) > LONGEST:
        raise BadCommandError(f"a command has at most {LONGEST} characters; this one has {len(text)}.")
    try:
        content = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise BadCommandError(f"a command is a JSON object: {str(error)[:80]}.") from error
    if not isinstance(content, dict):
        raise BadCommandError(f"a command is a JSON object; got a {type(content).__name__}.")
    name, number = content.pop("do", None), content.pop("id", 0)
    if not isinstance(name, str) or name not in _SCHEMA:
        raise BadCommandError(f"'do' is one of {', '.join(_SCHEMA)}; got {name!r:.40}.")
    schema = _SCHEMA[name]
    unknown = sorted(content.keys() - schema.keys())
    if unknown:
        raise BadCommandError(f"{name!r} has no entry {unknown[0]!r:.40}; it has {', '.join(schema) or 'none'}.")
    entries = {key: content.get(key) for key in schema}
    for key, value in {**entries, "id": number}.items():
        _check(key, value, _WHOLE if key == "id" else schema[key])
    return Command(name, entries, number)


def _check(key: str, value: Any, kinds: tuple[Any, ...]) -> None:
    if isinstance(kinds[0], str):
        is_one = isinstance(value, str) and value in kinds
    else:
        is_one = type(value) in kinds or (value is None and None in kinds)
    if not is_one or (type(value) is int and not 0 <= value < LARGEST):
        words = " or ".join(kind if isinstance(kind, str) else _WORDS[kind] for kind in kinds)
        raise BadCommandError(f"{key!r} is {words}; got {value!r:.40}.")


_WORDS: dict[Any, str] = {
    int: "a whole number from 0 on",
    list: "a list of numbers",
    bool: "true or false",
    None: "left out",
}


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")
