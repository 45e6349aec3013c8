"""Sources of data by name: what is known, what is added, and how one is opened."""

import importlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from wmcomponents._extras import MissingExtraError
from wmcomponents.data.datasets.recording import Piece, Recording
from wmcomponents.data.folder import BadDataError

Source = Callable[..., Recording]
"""A function of a path, and of options by name, that describes what lies there."""

SOURCES: dict[str, str | Source] = {
    name: f"wmcomponents.data.datasets.{place}"
    for name, place in {
        "arrays": "arrays:arrays",
        "hdf5": "hdf5:hdf5",
        "minari": "minari:minari",
        "lerobot": "lerobot:lerobot",
        "rlds": "rlds:rlds",
        "video": "video:video",
        "images": "images:images",
        "dreamer": "dreamer:dreamer",
        "crafter": "dreamer:crafter",
        "minecraft": "minecraft:minecraft",
        "realestate10k": "real_estate:real_estate",
        "carla": "carla:carla",
        "dino_wm": "dino_wm:dino_wm",
    }.items()
}
"""Every source by its name: the function, or where it is found, as ``package.module:function``. Add your own."""


class UnknownSourceError(ValueError):
    """There is no such source, or it has no such option; the message names those that there are."""


def register_source(name: str) -> Callable[[Source], Source]:
    """Make a function a source of data, by a name that ``wmc data import`` then takes.

    The function takes a path, and options of its own as keyword arguments with defaults; it returns a
    :class:`Recording`. ``wmc --import MODULE data import NAME PATH OUT`` imports the module that calls this first.

    Args:
        name: of the source.

    Example:
        >>> import numpy as np
        >>> from wmcomponents.data.datasets import Piece, Recording, open_source, register_source
        >>> from torchrl.data import Bounded, Composite, Unbounded
        >>> @register_source("countdown")
        ... def countdown(path, *, start: int = 3):
        ...     def pieces():
        ...         seen = np.arange(start, -1.0, -1.0)[:, None]
        ...         yield Piece({"observation": seen}, np.zeros((start, 1)), terminated=True)
        ...
        ...     return Recording("countdown", Composite(observation=Unbounded(1)), Bounded(-1, 1, (1,)), start, pieces)
        >>> open_source("countdown", "anywhere", start=5).steps
        5
    """

    def register(function: Source) -> Source:
        SOURCES[name] = function
        return function

    return register


def source_named(name: str) -> Source:
    """The function of a source.

    Raises:
        UnknownSourceError: if there is none of this name.
    """
    found = SOURCES.get(name)
    if found is None:
        raise UnknownSourceError(
            f"there is no source {name!r}; there are {', '.join(SOURCES)}. Another one is a function away: "
            f"wmcomponents.data.datasets.register_source."
        )
    if isinstance(found, str):
        module, _, function = found.partition(":")
        found = getattr(importlib.import_module(module), function)
    return found


def source_options(name: str) -> dict[str, Any]:
    """The options of a source, with their defaults.

    Raises:
        UnknownSourceError: if there is none of this name.
    """
    parameters = inspect.signature(source_named(name)).parameters.values()
    return {one.name: one.default for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY}


def open_source(name: str, path: str | Path, **options: Any) -> Recording:
    """Describe what lies at a path; nothing much is read yet.

    Args:
        name: of the source.
        path: where the data lie, as the source takes it.
        **options: of the source.

    Returns:
        The recording. Whatever goes wrong while it is read is a :class:`BadDataError`.

    Raises:
        UnknownSourceError: if there is no such source, or it has no such option.
        BadDataError: if the data are missing, damaged or not laid out so.
        MissingExtraError: if the package that reads them is not installed.
    """
    known = source_options(name)
    unknown = sorted(options.keys() - known.keys())
    if unknown:
        has = ", ".join(f"{option}={default!r}" for option, default in known.items()) or "none"
        raise UnknownSourceError(f"the source {name!r} has no option {', '.join(unknown)}; it has {has}.")
    recording = _read_as(name, path, lambda: source_named(name)(path, **options))
    return replace(recording, pieces=lambda: _pieces(name, path, recording))


def _pieces(name: str, path: str | Path, recording: Recording) -> Iterator[Piece]:
    pieces = _read_as(name, path, recording.pieces)
    while (piece := _read_as(name, path, lambda: next(pieces, None))) is not None:
        yield piece


def _read_as(name: str, path: str | Path, read: Callable[[], Any]) -> Any:
    """What ``read`` returns; whatever a reader of a foreign format raises becomes one kind of error.

    Raises:
        BadDataError: if it fails.
    """
    try:
        return read()
    except (BadDataError, UnknownSourceError, MissingExtraError):
        raise
    except Exception as error:
        said = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        if isinstance(error, OSError) and error.strerror:
            said = error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
        raise BadDataError(
            f"{path} cannot be read as {name!r}: {' '.join(said.split())[:500] or 'it is damaged'} "
            f"({type(error).__name__})."
        ) from error
