"""Between torchrl specs (tensors) and Gymnasium spaces (NumPy): spaces, actions in, observations out."""

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

BARE_KEYS = ("observation", "pixels", "latent")
"""Names that stand for a bare (not Dict) observation when they are the only entry."""


class SpaceError(ValueError):
    """An action, observation or space does not fit what the model was built for."""


def space_from_spec(spec: TensorSpec) -> gymnasium.Space:
    """The Gymnasium space of a torchrl spec.

    A ``Composite`` becomes a ``Dict``, unless its only entry is called ``observation``, ``pixels`` or ``latent`` (the names
    that TorchRL gives to a bare observation): then that entry's space itself.

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
        return spaces.MultiDiscrete(np.array([box.n for box in cast(Any, spec.space)]))
    if isinstance(spec, MultiCategorical):
        return spaces.MultiDiscrete(np.asarray(spec.nvec))
    if isinstance(spec, OneHot):
        return spaces.Discrete(cast(Any, spec.space).n)
    if isinstance(spec, Categorical):
        return spaces.Discrete(cast(Any, spec.space).n)
    if isinstance(spec, Binary) or spec.dtype is torch.bool:
        return spaces.Box(np.zeros(shape, dtype), np.ones(shape, dtype), shape, cast(Any, dtype))
    if isinstance(spec, Bounded):
        low, high = spec.space.low.cpu().numpy(), spec.space.high.cpu().numpy()
        return spaces.Box(low.astype(dtype), high.astype(dtype), shape, cast(Any, dtype))
    if isinstance(spec, Unbounded):
        if not spec.dtype.is_floating_point:
            info = np.iinfo(cast(Any, dtype))
            return spaces.Box(info.min, info.max, shape, cast(Any, dtype))
        return spaces.Box(-np.inf, np.inf, shape, cast(Any, dtype))
    raise SpaceError(f"no Gymnasium space stands for {type(spec).__name__}; supported are vectors, images, one-hots.")


class ActionReader:
    """Turns Gymnasium actions of N rows into the tensor that the model's ``action_spec`` describes.

    Args:
        spec: the model's action spec.
        device: where the tensor goes.
    """

    def __init__(self, spec: TensorSpec, device: torch.device) -> None:
        self.space = space_from_spec(spec)
        self._device = device
        self._tables: list[Tensor] = []
        self._shape = tuple(cast(tuple[int, ...], self.space.shape))
        self._dtype = spec.dtype
        if isinstance(spec, OneHot):
            self._tables = [torch.eye(cast(Any, spec.space).n, dtype=spec.dtype, device=device)]
        elif isinstance(spec, MultiOneHot):
            self._tables = [torch.eye(box.n, dtype=spec.dtype, device=device) for box in cast(Any, spec.space)]
        self._discrete = isinstance(self.space, (spaces.Discrete, spaces.MultiDiscrete))
        self._multi = isinstance(spec, MultiOneHot)

    def __call__(self, actions: Any, rows: int) -> Tensor:
        """Read the actions of ``rows`` rows.

        Args:
            actions: array or tensor ``[rows, ...]``; integers for discrete spaces.
            rows: how many rows must come.

        Raises:
            SpaceError: if the shape is not ``[rows, *space.shape]``, or discrete actions are not integers.
        """
        tensor = actions if isinstance(actions, Tensor) else torch.as_tensor(np.asarray(actions))
        expected = (rows, *self._shape)
        if tuple(tensor.shape) != expected:
            raise SpaceError(
                f"actions must have shape {expected} ({rows} rows of {self.space}); got {tuple(tensor.shape)}. "
                f"A single env takes one action without the row dimension, a vector env one for each row."
            )
        if self._discrete and (tensor.dtype.is_floating_point or tensor.dtype is torch.bool):
            raise SpaceError(f"{self.space} takes integer actions; got {tensor.dtype}. Pass argmax indices, not scores.")
        if tensor.device != self._device:
            tensor = tensor.to(self._device, non_blocking=True)
        if not self._tables:
            return tensor.to(self._dtype)
        if not self._multi:
            return self._tables[0][tensor]
        return torch.cat([table[tensor[..., i]] for i, table in enumerate(self._tables)], dim=-1)


class HostCopy:
    """Brings a step's tensors to NumPy: views of fresh CPU tensors, or one packed, pinned copy from an accelerator."""

    def __init__(self) -> None:
        self._pinned: Tensor | None = None

    def __call__(self, tensors: list[Tensor]) -> list[np.ndarray]:
        """Arrays that the caller owns, in order."""
        if tensors[0].device.type == "cpu":
            return [tensor.numpy() for tensor in tensors]
        order = sorted(range(len(tensors)), key=lambda i: -tensors[i].element_size())
        flat = [tensors[i].contiguous().view(-1).view(torch.uint8) for i in order]
        packed = torch.cat(flat)
        if self._pinned is None or self._pinned.numel() != packed.numel():
            self._pinned = torch.empty(packed.shape, dtype=torch.uint8, pin_memory=True)
        self._pinned.copy_(packed, non_blocking=True)
        torch.cuda.current_stream(packed.device).synchronize()
        host = self._pinned.numpy().copy()
        arrays: list[np.ndarray] = [host] * len(tensors)
        offset = 0
        for i, piece in zip(order, flat, strict=True):
            dtype = torch.empty(0, dtype=tensors[i].dtype).numpy().dtype
            arrays[i] = host[offset : offset + piece.numel()].view(dtype).reshape(tuple(tensors[i].shape))
            offset += piece.numel()
        return arrays


def observation_arrays(arrays: Mapping[str, np.ndarray], spec: Composite) -> Any:
    """An observation in the layout of :func:`space_from_spec`: the bare array, or a dict of arrays.

    One-hot entries become the integers of their ``Discrete`` space.
    """
    read = {
        key: arrays[key].argmax(-1) if isinstance(leaf, OneHot) else arrays[key] for key, leaf in spec.items()
    }
    if len(read) == 1 and next(iter(read)) in BARE_KEYS:
        return next(iter(read.values()))
    return read
