"""Episodes as the Dreamers' code and Crafter's recorder save them: an action stands beside what it led to."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torchrl.data import OneHot, TensorSpec

from wmcomponents.data.datasets.arrays import chosen, whole
from wmcomponents.data.datasets.episodes import EpisodeRows, recording_of
from wmcomponents.data.datasets.frames import sized
from wmcomponents.data.datasets.npz import NpzFile
from wmcomponents.data.datasets.recording import Recording
from wmcomponents.data.datasets.rows import Window
from wmcomponents.data.folder import BadDataError

CRAFTER_ACTIONS = 17
NOT_SEEN = ("action", "reward", "is_first", "is_last", "is_terminal", "discount", "done", "reset", "terminal")
"""Arrays that are no observations."""


def dreamer(path: str | Path, *, observations: str | None = None, image_size: int | None = None) -> Recording:
    """A folder of ``.npz`` files as DreamerV2 and DreamerV3 write them.

    Row t holds an observation, the *action that led to it* and the reward that came with it, so that the first row of
    an episode has neither. ``is_first`` marks the rows that begin an episode; ``is_terminal`` or a ``discount`` of 0
    the last row of one that ended by itself.

    Args:
        path: the folder.
        observations: names of the arrays that were observed, separated by commas; ``image`` if there is one, else all.
        image_size: side of all images; their own if not given.
    """
    return _arrived(Path(path), observations, image_size, f"dreamer/{Path(path).resolve().name}", None)


def crafter(path: str | Path, *, image_size: int | None = None) -> Recording:
    """What ``crafter.Recorder`` saves: a folder of ``.npz`` files, one an episode, of images and 17 actions.

    Args:
        path: the folder.
        image_size: side of the images; their own if not given.
    """
    spec = OneHot(CRAFTER_ACTIONS, dtype=torch.int64)
    return _arrived(Path(path), "image", image_size, f"crafter/{Path(path).resolve().name}", spec)


def _arrived(path: Path, names: str | None, size: int | None, name: str, action_spec: TensorSpec | None) -> Recording:
    files = sorted(path.rglob("*.npz"))
    if not files:
        raise BadDataError(f"{path} holds no .npz file.")

    def episodes() -> Iterator[EpisodeRows]:
        for file in files:
            with NpzFile(file) as held:
                yield from _episodes_of(held, names, size, str(file))

    return recording_of(name, episodes, action_spec=action_spec)


def _episodes_of(held: NpzFile, names: str | None, size: int | None, where: str) -> Iterator[EpisodeRows]:
    missing = {"action", "reward"} - set(held)
    if missing:
        raise BadDataError(f"{where} holds no {', '.join(sorted(missing))}, but {sorted(held)}.")
    if names is None:
        others = [each for each in held if each not in NOT_SEEN and not each.startswith("log_")]
        names = "image" if "image" in held else ",".join(others)
    count = held["action"].shape[0]
    lengths = {each: held[each].shape[0] for each in held if each in (*names.split(","), *NOT_SEEN)}
    if set(lengths.values()) != {count}:
        raise BadDataError(f"{where} holds arrays of unequal length: {lengths}. Each row is one moment.")
    first = whole(held["is_first"]).astype(bool) if "is_first" in held else np.zeros(count, bool)
    starts = sorted({0, *np.nonzero(first)[0].tolist()})
    ended = _terminal(held, count)
    for number, (start, stop) in enumerate(zip(starts, [*starts[1:], count], strict=True)):
        if stop - start < 2:  # a moment that nothing led to, and that led to nothing
            continue
        seen = {key: Window(rows, start, stop) for key, rows in chosen(held, names, where).items()}
        yield EpisodeRows(
            {key: sized(rows, size) for key, rows in seen.items()},
            Window(held["action"], start + 1, stop),
            Window(held["reward"], start + 1, stop),
            bool(ended[stop - 1]),
            f"{where}, episode {number},",
        )


def _terminal(held: NpzFile, count: int) -> np.ndarray:
    """Where an episode ended by itself."""
    for name in ("is_terminal", "terminal"):
        if name in held:
            return whole(held[name]).astype(bool)
    if "discount" in held:
        ended = whole(held["discount"]) == 0
        ended[0] = False  # filled with zeros where nothing had come yet
        return ended
    return whole(held["done"]).astype(bool) if "done" in held else np.zeros(count, bool)
