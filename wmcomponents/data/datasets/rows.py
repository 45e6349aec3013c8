"""Rows that are read by slices, from wherever they lie, and the pieces of an episode made of them."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from wmcomponents.data.datasets.recording import PIECE_BYTES, Piece
from wmcomponents.data.folder import BadDataError

MOST_ROWS = 4096
"""Of a piece."""
LARGEST_ROW = 2**28
"""Bytes."""


class Rows(Protocol):
    """An array ``[n, ...]`` that gives slices: NumPy's, HDF5's, or one that reads as it goes."""

    @property
    def shape(self) -> tuple[int, ...]:
        """``(n, ...)``."""
        ...

    @property
    def dtype(self) -> Any:
        """Of NumPy."""
        ...

    def __getitem__(self, index: slice, /) -> np.ndarray:
        """Rows from ``index.start`` to ``index.stop``."""
        ...


class Window:
    """Rows ``start`` to ``stop`` of others, not yet read.

    Args:
        rows: the others.
        start: first of them.
        stop: behind the last of them.
    """

    def __init__(self, rows: Rows, start: int, stop: int) -> None:
        self._rows, self._start = rows, start
        self.shape = (stop - start, *rows.shape[1:])
        self.dtype = rows.dtype

    def __getitem__(self, index: slice) -> np.ndarray:
        return self._rows[self._start + index.start : self._start + index.stop]


class Followed:
    """Rows with one more behind them.

    Args:
        rows: the first ones.
        last: has the last one, as its own last row.
    """

    def __init__(self, rows: Rows, last: Rows) -> None:
        self._rows, self._last = rows, last
        self._count = rows.shape[0]
        self.shape = (self._count + 1, *rows.shape[1:])
        self.dtype = rows.dtype

    def __getitem__(self, index: slice) -> np.ndarray:
        if index.stop <= self._count:
            return self._rows[index]
        end = self._last.shape[0]
        parts = [self._last[end - 1 : end]]
        if index.start < self._count:
            parts.insert(0, self._rows[index.start : self._count])
        return np.concatenate(parts)


class Chained(Followed):
    """Rows ``[T, ...]`` and those that followed each, ``[T, ...]``, as ``[T + 1, ...]``; compared where they overlap.

    Args:
        rows: what was seen before each step.
        following: what was seen after it.
        where: what the rows are called in an error.
    """

    def __init__(self, rows: Rows, following: Rows, where: str) -> None:
        if rows.shape != following.shape:
            raise BadDataError(
                f"{where} has observations {list(rows.shape)} and next observations {list(following.shape)}: expected "
                f"the same shape, one of each for every action."
            )
        super().__init__(rows, following)
        self._following, self._where = following, where

    def __getitem__(self, index: slice) -> np.ndarray:
        seen = super().__getitem__(index)
        told = self._following[index.start : index.stop - 1]
        agree = np.isclose(seen[1:], told, rtol=1e-5, atol=1e-6, equal_nan=True).reshape(len(told), -1).all(1)
        if not agree.all():
            step = index.start + int(np.argmin(agree))
            raise BadDataError(
                f"{self._where} shows after step {step} something else than before step {step + 1}: an episode ends "
                f"there and is not marked so, or one of the two is shifted. Mark every end (terminated or truncated)."
            )
        return seen


def rows_at_a_time(observations: Mapping[str, Rows]) -> int:
    """How many rows of these make a piece."""
    row = sum(math.prod(rows.shape[1:]) * np.dtype(rows.dtype).itemsize for rows in observations.values())
    if row > LARGEST_ROW:
        raise BadDataError(f"one moment has {row:,} bytes; at most {LARGEST_ROW:,} are read. Bring images to a size.")
    return max(1, min(MOST_ROWS, PIECE_BYTES // max(1, row)))


def episode_pieces(
    observations: Mapping[str, Rows], actions: Rows, rewards: Rows | None, *, terminated: bool, where: str
) -> Iterator[Piece]:
    """One episode in pieces.

    With one observation more than actions every step is whole. With as many, what followed the last action was not
    recorded: an episode that terminated keeps its last step, with its last observation shown again; one that was cut
    loses its last action, whose outcome nobody knows.

    Args:
        observations: by key, ``[T + 1, ...]`` or ``[T, ...]``.
        actions: ``[T, ...]``.
        rewards: ``[T]`` or ``[T, 1]``, or ``None``.
        terminated: whether it ended by itself.
        where: what the episode is called in an error.

    Raises:
        BadDataError: if the lengths do not belong together.
    """
    steps = checked_length(observations, actions, rewards, where)
    seen = next(iter(observations.values())).shape[0]
    if seen == steps and terminated:
        observations = {key: Followed(rows, rows) for key, rows in observations.items()}
    elif seen == steps:
        steps -= 1
    size = rows_at_a_time(observations)
    for start in range(0, steps, size):
        stop = min(start + size, steps)
        ends = stop == steps
        yield Piece(
            {key: rows[start : stop + 1] for key, rows in observations.items()},
            actions[start:stop],
            None if rewards is None else rewards[start:stop],
            terminated=ends and terminated,
            truncated=ends and not terminated,
        )


def steps_of_rows(seen: int, actions: int, terminated: bool) -> int:
    """Steps that :func:`episode_pieces` makes of an episode."""
    return actions if seen != actions or terminated else actions - 1


def checked_length(observations: Mapping[str, Rows], actions: Rows, rewards: Rows | None, where: str) -> int:
    """Number of actions of an episode whose lengths belong together.

    Raises:
        BadDataError: if they do not; it says what was expected.
    """
    count = actions.shape[0] if actions.shape else 0
    if count < 1:
        raise BadDataError(f"{where} has no actions: an episode is at least one step, with what was seen before it.")
    lengths = {key: rows.shape[0] for key, rows in observations.items()}
    if len(set(lengths.values())) > 1:
        raise BadDataError(f"{where} has observations of different lengths: {lengths}. One row of each is one moment.")
    seen = next(iter(lengths.values()))
    if seen not in (count, count + 1):
        raise BadDataError(
            f"{where} has {count} actions and {seen} observations: expected {count + 1} (one before each action and "
            f"one after the last) or {count} (the last is missing). Cut or shift what is too long."
        )
    if rewards is not None and rewards.shape not in ((count,), (count, 1)):
        raise BadDataError(
            f"{where} has rewards of shape {list(rewards.shape)} and {count} actions: expected one number for each "
            f"action, [{count}] or [{count}, 1], that which followed it."
        )
    return count
