"""Arguments looked at where they come in: a wrong one is told what was expected, what came and what to do."""

from numbers import Integral
from pathlib import Path
from typing import Any

import torch


def whole(name: str, value: Any, least: int, meaning: str) -> int:
    """A whole number that is at least ``least``.

    Raises:
        TypeError: if it is no whole number; booleans are none.
        ValueError: if it is smaller.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} is {meaning}; got {value!r}, a {type(value).__name__}. Pass a whole number.")
    if value < least:
        raise ValueError(f"{name} is {meaning}; got {value}.")
    return int(value)


def seed_or_none(value: Any) -> int | None:
    """A seed, if there is one.

    Raises:
        TypeError, ValueError: if it is no whole number of at least 0.
    """
    return None if value is None else whole("seed", value, 0, "a whole number, at least 0, or None")


def of_kind(name: str, value: Any, kind: type | tuple[type, ...], meaning: str) -> None:
    """Refuse what is of another kind.

    Args:
        name: of the argument.
        value: what came.
        kind: what it must be an instance of.
        meaning: what that is, and how to get it.

    Raises:
        TypeError: naming both.
    """
    if not isinstance(value, kind):
        kind_of_it = type(value).__name__
        came = f"the class {value.__name__}" if isinstance(value, type) else f"{_article(kind_of_it)} {kind_of_it}"
        raise TypeError(f"{name} is {meaning}; got {came}.")


def folder_path(name: str, value: Any) -> Path:
    """A path.

    Raises:
        TypeError: if it is none.
    """
    of_kind(name, value, (str, Path), "the path of a folder, a string or a pathlib.Path")
    return Path(value)


def device_named(value: Any) -> torch.device:
    """A torch device by its name.

    Raises:
        ValueError: if torch knows no such device.
    """
    try:
        return torch.device(value)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device is a torch device, such as 'cpu', 'cuda' or 'cuda:1'; got {value!r}.") from error


def _article(word: str) -> str:
    return "an" if word[:1].lower() in "aeio" else "a"
