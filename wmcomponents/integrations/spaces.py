"""Between torchrl specs (tensors) and Gymnasium spaces (NumPy): actions in, observations out and in."""

from collections.abc import Mapping
from typing import Any, cast

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torchrl.data import Composite, TensorSpec

from wmcomponents.codecs import ActionBounds, EntryCodec, names_of
from wmcomponents.codecs import SpaceError as SpaceError
from wmcomponents.codecs import space_from_spec as space_from_spec
from wmcomponents.codecs.spaces import is_bare
from wmcomponents.dream.simulator import DreamStep, Simulator


def outline(space: gymnasium.Space) -> Any:
    """What two spaces must share for one policy to act in both: structure, shapes, numbers of choices; not bounds."""
    if isinstance(space, spaces.Dict):
        return {key: outline(entry) for key, entry in space.items()}
    if isinstance(space, spaces.Discrete):
        return ("Discrete", int(space.n), int(space.start))
    if isinstance(space, spaces.MultiDiscrete):
        return ("MultiDiscrete", space.nvec.tolist(), space.start.tolist())
    if isinstance(space, spaces.MultiBinary):
        return ("MultiBinary", tuple(space.shape))
    return ("Box", tuple(space.shape or ()))


class ActionReader:
    """Turns Gymnasium actions of N rows into the tensor that the model's ``action_spec`` describes.

    Numbers outside the bounds of the space are clipped to them.

    Args:
        spec: the model's action spec.
        device: where the tensor goes.
    """

    def __init__(self, spec: TensorSpec, device: torch.device) -> None:
        self._codec = EntryCodec(spec, device)
        self.space = self._codec.space
        self._device = device
        self._shape = self._codec.shape
        self._is_binary = isinstance(self.space, spaces.MultiBinary) or self.space.dtype == np.bool_
        self._bounds = ActionBounds(spec, device)
        is_box = not self._codec.is_choice and not self._is_binary and self._bounds.is_float
        # Arrays that need no more than to be clipped are told from all else at one look.
        is_plain = is_box and device.type == "cpu" and self._codec.is_same
        self._plain = (self.space.dtype, self._shape) if is_plain else None
        self._first = torch.as_tensor(self._codec.start.astype(np.int64))
        self._last: Tensor | None = None
        if self._codec.is_choice:
            self._last = self._first + torch.as_tensor(self._codec.sizes).reshape(self._shape) - 1
            # Numbers that every choice of the space has.
            self._all_begin, self._all_end = self._first.max().item(), self._last.min().item()

    def __call__(self, actions: Any, rows: int) -> Tensor:
        """Read the actions of ``rows`` rows.

        Args:
            actions: array or tensor ``[rows, ...]``; integers for discrete spaces.
            rows: how many rows must come.

        Raises:
            SpaceError: if the shape is not ``[rows, *space.shape]``, discrete actions are not integers of the space,
                or numbers are not finite. Tensors on an accelerator are not looked into.
        """
        if type(actions) is np.ndarray and self._plain == (actions.dtype, actions.shape[1:]) and len(actions) == rows:
            return self._bounds.of_array(actions)
        tensor = _tensor(actions)
        if tensor.shape != (rows, *self._shape):
            raise SpaceError(
                f"actions must have shape {(rows, *self._shape)} ({rows} rows of {self.space}); got "
                f"{tuple(tensor.shape)}. A single env takes one action, without the row dimension."
            )
        if self._last is not None:
            self._check_choices(tensor)
        elif self._is_binary:
            self._check_bits(tensor)
        if tensor.device != self._device:
            tensor = tensor.to(self._device, non_blocking=True)
        if self._last is not None or self._is_binary:
            return self._codec.read(tensor)
        if self._bounds.is_float or not tensor.dtype.is_floating_point:
            return self._bounds(self._codec.read(tensor))
        raise SpaceError(f"{self.space} takes integers; got {tensor.dtype}. Round the actions.")

    def _check_choices(self, tensor: Tensor) -> None:
        if tensor.dtype.is_floating_point or tensor.dtype is torch.bool:
            raise SpaceError(
                f"{self.space} takes integer actions; got {tensor.dtype}. Pass argmax indices, not scores."
            )
        if tensor.device.type != "cpu":
            return
        tensor = tensor if tensor.dtype is torch.int64 else tensor.to(torch.int64)
        least, most = torch.aminmax(tensor)
        if self._all_begin <= least.item() and most.item() <= self._all_end:
            return
        strange = (tensor < self._first) | (tensor > cast(Tensor, self._last))
        if bool(strange.any()):
            raise SpaceError(f"{self.space} has no action {tensor[strange][0].item()}.")

    def _check_bits(self, tensor: Tensor) -> None:
        if tensor.device.type != "cpu" or tensor.dtype is torch.bool:
            return
        strange = (tensor != 0) & (tensor != 1)
        if bool(strange.any()):
            raise SpaceError(f"{self.space} takes zeros and ones; got {tensor[strange][0].item()}.")


class ObservationWriter:
    """Turns the entries of an observation into the layout of its space: bare or a dict, one-hots as integers.

    Works on arrays and tensors alike, with any leading dims.

    Args:
        spec: spec of one row's observation.
    """

    def __init__(self, spec: Composite) -> None:
        self.space = space_from_spec(spec)
        self._is_bare = is_bare(spec)
        names = names_of(spec)
        codecs = {key: EntryCodec(spec[key]) for key in names}
        self._entries = [(key, names[key], None if codecs[key].is_same else codecs[key].write) for key in names]

    def __call__(self, entries: Mapping[str, Any]) -> Any:
        """The observation as the space shows it."""
        if self._is_bare:
            key, _, write = self._entries[0]
            return entries[key] if write is None else write(entries[key])
        return {name: entries[key] if write is None else write(entries[key]) for key, name, write in self._entries}


class ObservationReader:
    """Turns real observations of N rows into the tensors that a model's ``observation_spec`` describes.

    Args:
        spec: the model's observation spec.
        device: where the tensors go.
    """

    def __init__(self, spec: Composite, device: torch.device) -> None:
        self.space = space_from_spec(spec)
        self._device = device
        self._is_bare = is_bare(spec)
        names = names_of(spec)
        self._entries = {key: (names[key], EntryCodec(spec[key], device)) for key in names}

    def __call__(self, observation: Any, rows: int) -> dict[str, Tensor]:
        """Read the observations of ``rows`` rows, laid out as :attr:`space` with a row dimension.

        Raises:
            SpaceError: if the structure, a shape or the kind of a dtype differs, a choice is not one of its space, or
                a number is not finite.
        """
        known = sorted(name for name, _ in self._entries.values())
        if self._is_bare and not isinstance(observation, dict):
            observation = {known[0]: observation}
        if not isinstance(observation, dict) or set(observation) != set(known):
            shown = sorted(observation) if isinstance(observation, dict) else "one array"
            raise SpaceError(f"the model observes {known}; the environment shows {shown}.")
        return {key: self._entry(name, codec, observation[name], rows) for key, (name, codec) in self._entries.items()}

    def _entry(self, name: str, codec: EntryCodec, value: Any, rows: int) -> Tensor:
        tensor = _tensor(value)
        expected = (rows, *codec.shape)
        if tensor.shape != expected:
            raise SpaceError(
                f"observation {name!r} must have shape {expected}; got {tuple(tensor.shape)}. The environment is not "
                f"the one that this model was trained on."
            )
        if codec.is_choice:
            _check_seen(name, codec, tensor)
            return codec.read(tensor.to(self._device))
        floats, dtype = tensor.dtype.is_floating_point, codec.spec.dtype
        if floats != dtype.is_floating_point or (tensor.dtype is torch.bool) != (dtype is torch.bool):
            raise SpaceError(f"observation {name!r} must be {dtype}, as in training; got {tensor.dtype}.")
        if floats and not bool(torch.isfinite(tensor).all()):
            bad = (~torch.isfinite(tensor)).reshape(rows, -1).any(1).nonzero().flatten().tolist()
            raise SpaceError(f"observation {name!r} is not finite in rows {bad}; check the environment.")
        return codec.read(tensor.to(self._device))


def _check_seen(name: str, codec: EntryCodec, tensor: Tensor) -> None:
    numbers = tensor.reshape(len(tensor), -1).cpu() - torch.as_tensor(codec.start.astype(np.int64)).reshape(-1)
    strange = ((numbers < 0) | (numbers >= torch.as_tensor(codec.sizes))).any(-1)
    if bool(strange.any()):
        row = int(strange.nonzero()[0])
        raise SpaceError(f"observation {name!r} is {tensor[row].tolist()} in row {row}, which is not in {codec.space}.")


class HostWriter:
    """A simulator's observations and steps as NumPy arrays that the caller owns, looked at on their way.

    Args:
        simulator: the dream.
    """

    def __init__(self, simulator: Simulator) -> None:
        self.write = ObservationWriter(_as_real(simulator))
        self.space = self.write.space
        self._simulator = simulator
        self._on_host = simulator.device.type == "cpu"
        self._copies = self._on_host and simulator.shares_view
        self._unset = np.zeros(simulator.batch_size, dtype=bool)
        self._pinned: Tensor | None = None

    def observation(self, observation: Mapping[str, Tensor]) -> Any:
        """Observations of all rows, ``[N, ...]``, as the space shows them.

        Raises:
            NotFiniteError: if one holds a NaN or an infinity.
        """
        if not self._on_host:
            observation = dict(zip(observation, self._fetched([*observation.values()]), strict=True))
        arrays = {key: tensor.numpy() for key, tensor in observation.items()}
        self._simulator.check_shown(arrays)
        return self.write(arrays)

    def step(self, step: DreamStep) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
        """The step just taken, or lent: observations, and rewards (float32), terminations, truncations ``[N]``.

        Raises:
            NotFiniteError: if a reward or an observation holds a NaN or an infinity.
        """
        if not self._on_host:
            observation, *numbers = step
            tensors = self._fetched([*observation.values(), *numbers])
            seen = dict(zip(observation, tensors, strict=False))
            step = DreamStep(seen, *tensors[len(seen) :])
        if self._copies:  # cheaper here than as tensors
            arrays = {key: tensor.numpy().copy() for key, tensor in step.observation.items()}
        else:
            arrays = {key: tensor.numpy() for key, tensor in step.observation.items()}
        rewards = step.reward.numpy()[:, 0].astype(np.float32, copy=False)
        self._simulator.check_shown(arrays, rewards)
        seen = self.write(arrays)
        if self._simulator.all_running:  # no flag is set: two tensors less to convert
            return seen, rewards, self._unset.copy(), self._unset.copy()
        return seen, rewards, step.terminated.numpy()[:, 0].copy(), step.truncated.numpy()[:, 0].copy()

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


def _as_real(simulator: Simulator) -> Composite:
    """What a dream shows, with what the model's own specs remember of the real environment."""
    own = simulator.model.observation_spec if simulator.view in ("decoded", "both") else Composite()
    shown = simulator.observation_spec.to("cpu").items()
    return Composite({key: own[key] if key in own.keys() else leaf for key, leaf in shown}, shape=())


def row_of(observation: Any, index: int, space: gymnasium.Space | None = None) -> Any:
    """One row of a batch of observations, bare or a dict.

    Args:
        observation: of all rows.
        index: which row.
        space: of one row. With it a number of a ``Box`` is an array, as in Gymnasium; one of a ``Discrete`` is not.
    """
    if isinstance(observation, dict):
        return {key: row_of(value, index, space and space[key]) for key, value in observation.items()}  # pyright: ignore
    return observation[index, ...] if isinstance(space, spaces.Box) else observation[index]


def _tensor(value: Any) -> Tensor:
    """A tensor on an array's own memory, or on a copy of what torch will not share: read-only or reversed arrays."""
    if not isinstance(value, np.ndarray):
        if isinstance(value, Tensor):
            return value
        value = np.asarray(value)
    if value.dtype.kind not in "biuf":
        raise SpaceError(f"actions and observations are numbers; got an array of {value.dtype}.")
    return torch.from_numpy(value if value.flags.carray else value.copy())
