"""What an array of observations or of actions is, where nothing but its numbers says so."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torchrl.data import Binary, Bounded, Composite, MultiOneHot, OneHot, TensorSpec, Unbounded

from wmcomponents.data.datasets.rows import MOST_ROWS, Rows
from wmcomponents.data.folder import BadDataError

MOST_CHOICES = 4096


def observation_spec_of(observations: Mapping[str, Rows]) -> Composite:
    """The spec of one observation of some rows: bytes from 0 to 255, flags, or else float32 without bounds.

    Args:
        observations: by key, ``[n, ...]``.

    Raises:
        BadDataError: for what is no array of numbers.
    """
    return Composite({key: _spec_of(key, rows) for key, rows in observations.items()})


def _spec_of(key: str, rows: Rows) -> TensorSpec:
    dtype, shape = np.dtype(rows.dtype), torch.Size(rows.shape[1:] or (1,))
    if dtype.kind not in "biuf":
        raise BadDataError(
            f"observation {key!r} is an array of {dtype}, which is no number: encode it, or leave it out."
        )
    if 0 in shape:
        raise BadDataError(f"observation {key!r} has the shape {list(shape)} and shows nothing: leave it out.")
    if dtype == np.uint8:
        return Bounded(0, 255, shape, dtype=torch.uint8)
    return Unbounded(shape, dtype=torch.bool) if dtype.kind == "b" else Unbounded(shape, dtype=torch.float32)


def bare_key(rows: Rows) -> str:
    """What a single observation is called: ``pixels`` if it is a colour image, as elsewhere, or ``observation``."""
    is_colour = np.dtype(rows.dtype) == np.uint8 and len(rows.shape) == 4 and rows.shape[-1] == 3
    return "pixels" if is_colour else "observation"


def box_of(spec: Bounded) -> tuple[Tensor, Tensor]:
    """The least and the greatest of a spec with bounds, of its shape."""
    box = cast(Any, spec.space)
    return box.low, box.high


class ActionScan:
    """Looks at all actions of a recording, and says what they are.

    Whole numbers are choices, flags are flags, and real numbers are bounded by [-1, 1] if that holds them, else by what
    was seen. Rows of one 1 among zeros are a choice.

    Args:
        where: what the actions are called in an error.
    """

    def __init__(self, where: str = "the actions") -> None:
        self._where = where
        self._low: np.ndarray | None = None
        self._high: np.ndarray | None = None
        self._kind = ""
        self._is_one_hot = True

    def add(self, actions: Rows, episode: str = "") -> None:
        """Look at more actions, ``[n, ...]``.

        Args:
            actions: of one episode.
            episode: what that is called in an error.

        Raises:
            BadDataError: if they are no finite numbers, or of another shape than those before.
        """
        for start in range(0, actions.shape[0], MOST_ROWS):
            self._look(np.asarray(actions[start : min(start + MOST_ROWS, actions.shape[0])]), start, episode)

    def _look(self, some: np.ndarray, start: int, episode: str) -> None:
        if some.dtype.kind not in "biuf":
            raise BadDataError(f"{self._where} are an array of {some.dtype}; expected numbers, or numbers of choices.")
        if some.dtype.kind == "f" and not np.isfinite(some).all():
            step = start + int(np.argmin(np.isfinite(some).reshape(len(some), -1).all(1)))
            raise BadDataError(
                f"{self._where} hold NaN or infinity, first in {episode or 'their episode'} at step {step}: mend or "
                f"leave out the episodes that do."
            )
        low, high = some.min(0), some.max(0)
        if self._low is None or self._high is None:
            self._low, self._high, self._kind = low, high, some.dtype.kind
        elif low.shape != self._low.shape or some.dtype.kind != self._kind:
            raise BadDataError(
                f"{self._where} are {self._kind}{list(self._low.shape)} in one episode and {some.dtype.kind}"
                f"{list(low.shape)} in another: one kind is expected in all."
            )
        else:
            self._low, self._high = np.minimum(low, self._low), np.maximum(high, self._high)
        if self._is_one_hot:
            ones = some.reshape(len(some), -1)
            self._is_one_hot = ones.shape[1] > 1 and bool(
                ((ones == 0) | (ones == 1)).all() and (ones.sum(1) == 1).all()
            )

    def spec(self) -> TensorSpec:
        """The spec of one action.

        Raises:
            BadDataError: if there were none, or more alternatives than can be told apart.
        """
        if self._low is None or self._high is None:
            raise BadDataError(f"{self._where} are missing: there is no step.")
        shape = torch.Size(self._low.shape or (1,))
        if self._is_one_hot and len(shape) == 1:
            return OneHot(shape[0], dtype=torch.int64)
        if self._kind == "b":
            return Binary(shape[-1], shape=shape, dtype=torch.int8)
        if self._kind in "iu":
            return self._choices()
        low, high = (bound.reshape(shape).astype(np.float32) for bound in (self._low, self._high))
        if low.min() >= -1 and high.max() <= 1:
            return Bounded(-1.0, 1.0, shape)
        still = low == high
        low, high = np.where(still, low - 1, low), np.where(still, high + 1, high)
        return Bounded(torch.from_numpy(low), torch.from_numpy(high), shape)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was concluded, if it says more than the numbers do."""
        spec = self.spec()
        if not isinstance(spec, Bounded):
            return ()
        low, high = box_of(spec)
        if bool((low == -1).all() and (high == 1).all()):
            return ()
        return ("The bounds of the actions are the least and the greatest that occur.",)

    def _choices(self) -> TensorSpec:
        low, high = np.atleast_1d(self._low), np.atleast_1d(self._high)  # pyright: ignore
        if low.min() < 0 or high.max() >= MOST_CHOICES or low.ndim > 1:
            raise BadDataError(
                f"{self._where} are whole numbers from {low.min()} to {high.max()} of shape {list(low.shape)}: choices "
                f"are numbered from 0 to at most {MOST_CHOICES - 1}, in one vector. Give quantities as real numbers."
            )
        sizes = [int(number) + 1 for number in high]
        return OneHot(sizes[0], dtype=torch.int64) if len(sizes) == 1 else MultiOneHot(sizes, dtype=torch.int64)
