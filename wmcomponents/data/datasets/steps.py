"""Pieces of a recording as steps in TorchRL's layout, each held against the recording's specs."""

from collections.abc import Iterator

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor
from torch.nn import functional
from torchrl.data import Binary, Bounded, Categorical, OneHot, TensorSpec

from wmcomponents.codecs import real_of
from wmcomponents.codecs.entry import sizes_of
from wmcomponents.data.datasets.kinds import box_of
from wmcomponents.data.datasets.recording import Piece, Recording
from wmcomponents.data.folder import BadDataError

ROUNDING = 1e-4
"""How far outside of its box an action may be, in widths of the box, to be taken for one that was rounded."""
OUTSIDE = "lies outside of its box: clip it, or give the box that it comes from"


def steps_of(recording: Recording) -> Iterator[TensorDict]:
    """All steps, ``[n]`` at a time; an episode that is open at the end is cut there.

    Args:
        recording: what to read.

    Raises:
        BadDataError: if a piece is not what the specs say; it names the episode, the step and the entry.
    """
    reader = _Reader(recording)
    before: TensorDict | None = None
    for piece in recording.pieces():
        steps = reader.read(piece)
        if before is not None:
            yield before
        before = steps
    if before is None:
        raise BadDataError(f"{recording.name} holds no steps.")
    before["next", "truncated"][-1] = ~before["next", "terminated"][-1]
    before["next", "done"][-1] = True
    yield before


class _Reader:
    """Turns pieces into steps, and remembers where it is."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._episode, self._step = 0, 0
        self._last: dict[str, Tensor] = {}

    def read(self, piece: Piece) -> TensorDict:
        specs, count = self._recording.observation_spec, len(piece)
        if set(piece.observations) != set(specs.keys()):
            raise self._fault(f"shows {sorted(piece.observations)}; expected {sorted(map(str, specs.keys()))}", 0)
        if count < 1:
            raise self._fault("comes in a piece without steps", 0)
        seen = {key: self._entry(key, specs[key], value, count + 1) for key, value in piece.observations.items()}
        if self._step and any(not seen[key][0].equal(last) for key, last in self._last.items()):
            raise self._fault("does not go on with the observation that it had come to", 0)
        action = self._entry("action", self._recording.action_spec, piece.actions, count)
        reward = torch.zeros(count, 1) if piece.rewards is None else self._rewards(piece.rewards, count)
        flags = {
            name: torch.zeros(count, 1, dtype=torch.bool) for name in ("is_init", "terminated", "truncated", "done")
        }
        flags["is_init"][0] = self._step == 0
        flags["terminated"][-1] = piece.terminated
        flags["truncated"][-1] = piece.truncated
        flags["done"][-1] = ends = piece.terminated or piece.truncated
        self._last = {} if ends else {key: value[-1] for key, value in seen.items()}
        self._episode, self._step = (self._episode + 1, 0) if ends else (self._episode, self._step + count)
        following = {key: value[1:] for key, value in seen.items()}
        ended = {name: flags.pop(name) for name in ("terminated", "truncated", "done")}
        now = {key: value[:-1] for key, value in seen.items()}
        return TensorDict({**now, **flags, "action": action, "next": {**following, "reward": reward, **ended}}, [count])

    def _entry(self, key: str, spec: TensorSpec, value: np.ndarray, count: int) -> Tensor:
        value = np.asarray(value)
        if value.shape[:1] != (count,):
            raise self._fault(f"has {key!r} of shape {list(value.shape)}; expected {count} rows", 0)
        if value.dtype.kind not in "biuf":
            raise self._fault(f"has {key!r} of {value.dtype}; expected numbers", 0)
        given = _tensor(value)
        row = tuple(given.shape[1:]) or (1,)
        is_choice = isinstance(spec, OneHot) and not given.is_floating_point()
        # A row of one number is a one-hot row of one alternative, unless it is its number, 0.
        if row == (tuple(spec.shape) or (1,)) and not (is_choice and given.numel() == count and not given.any()):
            return self._numbers(key, spec, given.reshape(count, *spec.shape))
        if is_choice:
            return self._choices(key, spec, given)
        raise self._fault(f"has {key!r} of shape {list(row)}; expected {list(spec.shape)}", 0)

    def _numbers(self, key: str, spec: TensorSpec, given: Tensor) -> Tensor:
        if given.is_floating_point():
            self._all(key, given.isfinite(), "is NaN or infinite, and no model learns from that")
        if isinstance(spec, Bounded) and (key == "action" or not spec.dtype.is_floating_point):
            given = self._bounded(key, spec, given)
        if isinstance(spec, OneHot | Binary):
            self._all(key, (given == 0) | (given == 1), "is neither 0 nor 1")
        if type(spec) is OneHot:
            self._all(key, given.sum(-1) == 1, "is no choice: one 1 among zeros")
        if isinstance(spec, Categorical) and not isinstance(spec, Binary):
            self._all(key, (given >= 0) & (given < spec.space.n), f"is no choice: expected 0 to {spec.space.n - 1}")
        return given.to(spec.dtype)

    def _bounded(self, key: str, spec: Bounded, given: Tensor) -> Tensor:
        low, high = (bound.to(given.dtype) for bound in box_of(spec))
        if not given.is_floating_point():
            self._all(key, (given >= low) & (given <= high), OUTSIDE)
            return given
        slack = ROUNDING * (high - low).clamp(max=1e6)
        self._all(key, (given >= low - slack) & (given <= high + slack), OUTSIDE)
        return given.clamp(low, high)

    def _choices(self, key: str, spec: TensorSpec, given: Tensor) -> Tensor:
        """Numbers of choices as one-hot rows, side by side where there are several."""
        sizes, real = sizes_of(spec), real_of(spec)
        first = 0 if real is None else real.space.get("start", 0)
        start = torch.as_tensor(first).reshape(-1).expand(len(sizes))
        index = given.reshape(len(given), -1).to(torch.int64)
        if index.shape[1] != len(sizes):
            raise self._fault(f"has {key!r} of {index.shape[1]} choices; expected {len(sizes)}", 0)
        known = (index >= start) & (index < start + torch.tensor(sizes))
        self._all(key, known, f"is no choice: expected whole numbers from {start.tolist()}, {sizes} of them")
        hot = [functional.one_hot(index[:, at] - start[at], size) for at, size in enumerate(sizes)]
        return torch.cat(hot, -1).to(spec.dtype).reshape(len(given), *spec.shape)

    def _rewards(self, rewards: np.ndarray, count: int) -> Tensor:
        rewards = np.asarray(rewards)
        if rewards.shape not in ((count,), (count, 1)) or rewards.dtype.kind not in "biuf":
            raise self._fault(
                f"has rewards of {rewards.dtype} {list(rewards.shape)}; expected one number a step, [{count}]", 0
            )
        given = torch.from_numpy(rewards.astype(np.float32)).reshape(count, 1)
        self._all("reward", given.isfinite(), "is NaN or infinite")
        return given

    def _all(self, key: str, good: Tensor, fault: str) -> None:
        if bool(good.all()):
            return
        step = int(torch.nonzero(~good.reshape(len(good), -1).all(-1))[0])
        raise self._fault(f"has an entry {key!r} that {fault}", step)

    def _fault(self, said: str, step: int) -> BadDataError:
        return BadDataError(
            f"{self._recording.name}: episode {self._episode} {said} (at its step {self._step + step}, counted from 0)."
        )


def _tensor(value: np.ndarray) -> Tensor:
    """Numbers of any kind as a tensor: torch knows neither foreign byte orders nor wide unsigned and long ones."""
    kind = value.dtype.newbyteorder("=")
    if kind.kind == "u" and kind.itemsize > 1:
        kind = np.dtype(np.int64)
    elif kind.kind == "f" and kind.itemsize > 8:
        kind = np.dtype(np.float64)
    value = np.ascontiguousarray(value.astype(kind, copy=not value.flags.writeable))
    return torch.from_numpy(value)
