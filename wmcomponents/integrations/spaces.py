"""Between torchrl specs (tensors) and Gymnasium spaces (NumPy): spaces, actions in, observations out and in."""

from collections.abc import Mapping
from typing import Any, cast

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torchrl.data import (
    Binary,
    Bounded,
    Categorical,
    Composite,
    MultiCategorical,
    MultiOneHot,
    OneHot,
    TensorSpec,
    Unbounded,
)

from wmcomponents.dream.simulator import DreamStep, Simulator

BARE_KEYS = ("observation", "pixels", "latent")
"""Names that stand for a bare (not Dict) observation when they are the only entry."""


class SpaceError(ValueError):
    """An action, observation or space does not fit what the model was built for."""


def space_from_spec(spec: TensorSpec) -> gymnasium.Space:
    """The Gymnasium space of a torchrl spec.

    A ``Composite`` becomes a ``Dict``, unless its only entry is called ``observation``, ``pixels`` or ``latent`` (the
    names that TorchRL gives to a bare observation): then that entry's space itself.

    Args:
        spec: spec of one row.

    Raises:
        SpaceError: if the spec has no Gymnasium counterpart.
    """
    if isinstance(spec, Composite):
        entries = dict(spec.items())
        if len(entries) == 1 and next(iter(entries)) in BARE_KEYS:
            return space_from_spec(next(iter(entries.values())))
        return spaces.Dict({cast(str, key): space_from_spec(leaf) for key, leaf in entries.items()})
    dtype = torch.empty(0, dtype=spec.dtype).numpy().dtype
    shape = tuple(spec.shape)
    if isinstance(spec, MultiOneHot):
        return spaces.MultiDiscrete(np.array(_sizes(spec)))
    if isinstance(spec, MultiCategorical):
        return spaces.MultiDiscrete(np.asarray(spec.nvec))
    if isinstance(spec, OneHot):
        if len(shape) != 1:
            raise SpaceError(f"a one-hot spec stands for one choice, a vector; got shape {shape}. Use MultiOneHot.")
        return spaces.Discrete(cast(Any, spec.space).n)
    if isinstance(spec, Binary) or spec.dtype is torch.bool:
        return spaces.Box(np.zeros(shape, dtype), np.ones(shape, dtype), shape, cast(Any, dtype))
    if isinstance(spec, Categorical):
        count = cast(Any, spec.space).n
        return spaces.MultiDiscrete(np.full(shape, count)) if shape else spaces.Discrete(count)
    if isinstance(spec, Bounded):
        box = cast(Any, spec.space)
        low, high = box.low.cpu().numpy(), box.high.cpu().numpy()
        return spaces.Box(low.astype(dtype), high.astype(dtype), shape, cast(Any, dtype))
    if isinstance(spec, Unbounded):
        if not spec.dtype.is_floating_point:
            info = np.iinfo(cast(Any, dtype))
            return spaces.Box(info.min, info.max, shape, cast(Any, dtype))
        return spaces.Box(-np.inf, np.inf, shape, cast(Any, dtype))
    raise SpaceError(f"no Gymnasium space stands for {type(spec).__name__}; supported are numbers, images and choices.")


def outline(space: gymnasium.Space) -> Any:
    """What two spaces must share for one policy to act in both: structure, shapes, numbers of choices; not bounds."""
    if isinstance(space, spaces.Dict):
        return {key: outline(entry) for key, entry in space.items()}
    if isinstance(space, spaces.Discrete):
        return ("Discrete", int(space.n), int(space.start))
    if isinstance(space, spaces.MultiDiscrete):
        return ("MultiDiscrete", space.nvec.tolist())
    return ("Box", tuple(space.shape or ()))


class ActionReader:
    """Turns Gymnasium actions of N rows into the tensor that the model's ``action_spec`` describes.

    Args:
        spec: the model's action spec.
        device: where the tensor goes.
    """

    def __init__(self, spec: TensorSpec, device: torch.device) -> None:
        self.space = space_from_spec(spec)
        self._device = device
        self._shape = tuple(cast("tuple[int, ...]", self.space.shape))
        self._dtype = spec.dtype
        self._discrete = isinstance(self.space, (spaces.Discrete, spaces.MultiDiscrete))
        self._choices = _choices(self.space)
        sizes = _sizes(spec) if isinstance(spec, OneHot) else []
        self._tables = [torch.eye(size, dtype=spec.dtype, device=device) for size in sizes]

    def __call__(self, actions: Any, rows: int) -> Tensor:
        """Read the actions of ``rows`` rows.

        Args:
            actions: array or tensor ``[rows, ...]``; integers for discrete spaces.
            rows: how many rows must come.

        Raises:
            SpaceError: if the shape is not ``[rows, *space.shape]``, or discrete actions are not integers of the space.
                Tensors on an accelerator are not looked into.
        """
        tensor = _tensor(actions)
        if tensor.shape != (rows, *self._shape):
            raise SpaceError(
                f"actions must have shape {(rows, *self._shape)} ({rows} rows of {self.space}); got "
                f"{tuple(tensor.shape)}. A single env takes one action, without the row dimension."
            )
        if self._discrete:
            self._check_choices(tensor)
        if tensor.device != self._device:
            tensor = tensor.to(self._device, non_blocking=True)
        if not self._tables:
            return tensor if tensor.dtype is self._dtype else tensor.to(self._dtype)
        if len(self._tables) == 1:
            return self._tables[0][tensor.reshape(rows)]
        return torch.cat([table[tensor[:, i]] for i, table in enumerate(self._tables)], dim=-1)

    def _check_choices(self, tensor: Tensor) -> None:
        if tensor.dtype.is_floating_point or tensor.dtype is torch.bool:
            raise SpaceError(
                f"{self.space} takes integer actions; got {tensor.dtype}. Pass argmax indices, not scores."
            )
        if tensor.device.type != "cpu":
            return
        strange = (tensor < 0) | (tensor >= self._choices)
        if bool(strange.any()):
            raise SpaceError(f"{self.space} has no action {tensor[strange][0].item()}.")


class ObservationWriter:
    """Turns the entries of an observation into the layout of its space: bare or a dict, one-hots as integers.

    Works on arrays and tensors alike, with any leading dims.

    Args:
        spec: spec of one row's observation.
    """

    def __init__(self, spec: Composite) -> None:
        self.space = space_from_spec(spec)
        leaves = {cast(str, key): leaf for key, leaf in spec.items()}
        self._bare = None if isinstance(self.space, spaces.Dict) else next(iter(leaves))
        self._one_hots = {key: _sizes(leaf) for key, leaf in leaves.items() if isinstance(leaf, OneHot)}

    def __call__(self, entries: Mapping[str, Any]) -> Any:
        """The observation as the space shows it."""
        if self._one_hots:
            entries = {key: self._indices(key, value) for key, value in entries.items()}
        return dict(entries) if self._bare is None else entries[self._bare]

    def _indices(self, key: str, value: Any) -> Any:
        sizes = self._one_hots.get(key)
        if sizes is None:
            return value
        if isinstance(value, Tensor):
            value = value.to(torch.uint8)  # torch finds no argmax of booleans
        if len(sizes) == 1:
            return value.argmax(-1)
        stack = torch.stack if isinstance(value, Tensor) else np.stack
        ends = np.cumsum(sizes)
        return stack([value[..., end - size : end].argmax(-1) for size, end in zip(sizes, ends, strict=True)], -1)


class ObservationReader:
    """Turns real observations of N rows into the tensors that a model's ``observation_spec`` describes.

    Args:
        spec: the model's observation spec.
        device: where the tensors go.
    """

    def __init__(self, spec: Composite, device: torch.device) -> None:
        self.space = space_from_spec(spec)
        self._device = device
        self._leaves = {cast(str, key): leaf for key, leaf in spec.items()}
        inner = self.space.spaces if isinstance(self.space, spaces.Dict) else {next(iter(self._leaves)): self.space}
        self._shapes = {key: tuple(entry.shape or ()) for key, entry in inner.items()}

    def __call__(self, observation: Any, rows: int) -> dict[str, Tensor]:
        """Read the observations of ``rows`` rows, laid out as :attr:`space` with a row dimension.

        Raises:
            SpaceError: if the structure, a shape or the kind of a dtype differs, or a number is not finite.
        """
        entries = observation if isinstance(observation, dict) else {next(iter(self._leaves)): observation}
        if set(entries) != set(self._leaves):
            raise SpaceError(f"the model observes {sorted(self._leaves)}; the environment shows {sorted(entries)}.")
        return {key: self._entry(key, leaf, entries[key], rows) for key, leaf in self._leaves.items()}

    def _entry(self, key: str, leaf: TensorSpec, value: Any, rows: int) -> Tensor:
        tensor = _tensor(value)
        expected = (rows, *self._shapes[key])
        if tensor.shape != expected:
            raise SpaceError(
                f"observation {key!r} must have shape {expected}; got {tuple(tensor.shape)}. The environment is not "
                f"the one that this model was trained on."
            )
        if isinstance(leaf, OneHot):
            parts = tensor.reshape(rows, -1).long().unbind(-1)
            hot = [torch.nn.functional.one_hot(part, n) for part, n in zip(parts, _sizes(leaf), strict=True)]
            return torch.cat(hot, -1).to(self._device, leaf.dtype)
        floats = tensor.dtype.is_floating_point
        if floats != leaf.dtype.is_floating_point or (tensor.dtype is torch.bool) != (leaf.dtype is torch.bool):
            raise SpaceError(f"observation {key!r} must be {leaf.dtype}, as in training; got {tensor.dtype}.")
        if floats and not bool(torch.isfinite(tensor).all()):
            bad = (~torch.isfinite(tensor)).reshape(rows, -1).any(1).nonzero().flatten().tolist()
            raise SpaceError(f"observation {key!r} is not finite in rows {bad}; check the environment.")
        return tensor.to(self._device, leaf.dtype)


class HostWriter:
    """A simulator's observations and steps as NumPy arrays that the caller owns, looked at on their way.

    Args:
        simulator: the dream.
    """

    def __init__(self, simulator: Simulator) -> None:
        self.write = ObservationWriter(simulator.observation_spec)
        self.space = self.write.space
        self._simulator = simulator
        self._on_host = simulator.device.type == "cpu"
        self._pinned: Tensor | None = None

    def observation(self, observation: Mapping[str, Tensor]) -> Any:
        """Observations of all rows, as the space shows them.

        Raises:
            NotFiniteError: if one holds a NaN or an infinity.
        """
        if not self._on_host:
            observation = dict(zip(observation, self._fetched([*observation.values()]), strict=True))
        self._simulator.check_shown(observation)
        return self.write({key: tensor.numpy() for key, tensor in observation.items()})

    def step(self, step: DreamStep) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
        """The step just taken: observations, and rewards (float32), terminations, truncations ``[N]``.

        Raises:
            NotFiniteError: if a reward or an observation holds a NaN or an infinity.
        """
        if not self._on_host:
            observation, *numbers = step
            tensors = self._fetched([*observation.values(), *numbers])
            seen = dict(zip(observation, tensors, strict=False))
            step = DreamStep(seen, *tensors[len(seen) :])
        self._simulator.check_shown(step.observation, step.reward)
        seen = self.write({key: tensor.numpy() for key, tensor in step.observation.items()})
        rewards = step.reward.numpy()[:, 0].astype(np.float32, copy=False)
        if self._simulator.all_running:  # no flag is set: two tensors less to convert
            return seen, rewards, np.zeros(rewards.shape, dtype=bool), np.zeros(rewards.shape, dtype=bool)
        return seen, rewards, step.terminated.numpy()[:, 0], step.truncated.numpy()[:, 0]

    def _fetched(self, tensors: list[Tensor]) -> list[Tensor]:
        """Copies on the host: from a CUDA device by one packed, pinned transfer."""
        if tensors[0].device.type != "cuda":
            return [tensor.cpu() for tensor in tensors]
        # The largest elements first, so that each piece stands at a multiple of its element's size.
        order = sorted(range(len(tensors)), key=lambda i: -tensors[i].element_size())
        flat = [tensors[i].contiguous().view(-1).view(torch.uint8) for i in order]
        packed = torch.cat(flat)
        if self._pinned is None or self._pinned.shape != packed.shape:
            self._pinned = torch.empty(packed.shape, dtype=torch.uint8, pin_memory=True)
        self._pinned.copy_(packed, non_blocking=True)
        torch.cuda.current_stream(packed.device).synchronize()
        pieces = self._pinned.clone().split([piece.numel() for piece in flat])
        fetched = dict(zip(order, pieces, strict=True))
        return [fetched[i].view(tensor.dtype).view(tensor.shape) for i, tensor in enumerate(tensors)]


def _sizes(spec: OneHot) -> list[int]:
    """The numbers of choices in a one-hot spec, single or multiple."""
    if isinstance(spec, MultiOneHot):
        return [box.n for box in cast(Any, spec.space)]
    return [cast(Any, spec.space).n]


def _choices(space: gymnasium.Space) -> Any:
    if isinstance(space, spaces.MultiDiscrete):
        return torch.as_tensor(space.nvec)
    return int(space.n) if isinstance(space, spaces.Discrete) else None


def row_of(observation: Any, index: int) -> Any:
    """One row of a batch of observations, bare or a dict."""
    if isinstance(observation, dict):
        return {key: value[index] for key, value in observation.items()}
    return observation[index]


def _tensor(value: Any) -> Tensor:
    """A tensor on an array's own memory, or on a copy of what torch will not share: read-only or reversed arrays."""
    if not isinstance(value, np.ndarray):
        if isinstance(value, Tensor):
            return value
        value = np.asarray(value)
    return torch.from_numpy(value if value.flags.carray else value.copy())
