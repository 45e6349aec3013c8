"""One entry of an environment's spaces: its torchrl spec, its Gymnasium space, and its values between the two."""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torchrl.data import (
    Binary,
    Bounded,
    Categorical,
    MultiCategorical,
    MultiOneHot,
    OneHot,
    TensorSpec,
    Unbounded,
)

from wmcomponents._extras import require

_MARK = "_wmcomponents_real"

# Torch computes with neither the unsigned integers beyond a byte nor extended floats; doubles become floats, as
# networks read them. What is not named here keeps its dtype.
_HELD_AS = {"float64": torch.float32, "uint16": torch.int32, "uint32": torch.int64, "uint64": torch.int64}
_HELD = {
    **{name: getattr(torch, name) for name in ("bool", "uint8", "int8", "int16", "int32", "int64", "float16")},
    "float32": torch.float32,
    **_HELD_AS,
}


class SpaceError(ValueError):
    """An action, observation or space does not fit what the model was built for, or cannot be modelled."""


@dataclass(frozen=True)
class Real:
    """What a real environment's entry is, where its spec alone does not say it.

    Attributes:
        space: its Gymnasium space as plain JSON.
        name: its name in the environment's ``Dict``; ``None`` for an observation that is no ``Dict``, and for actions.
    """

    space: Mapping[str, Any]
    name: str | None = None


def real_of(spec: TensorSpec) -> Real | None:
    """What :func:`marked` wrote on a spec, or ``None``."""
    return getattr(spec, _MARK, None)


def check_real(real: Real, spec: TensorSpec) -> None:
    """Refuse what :func:`to_json` would not have written for a spec: asked of files, before any space is built.

    Raises:
        ValueError: saying what is wrong.
    """
    space = real.space
    if not isinstance(space, Mapping) or set(space) != _ENTRIES.get(space.get("kind")):
        raise ValueError(f"a real space is one of {', '.join(_ENTRIES)} with its own entries; got {space!r}.")
    if real.name is not None and not isinstance(real.name, str):
        raise ValueError(f"the name of a real entry is a string; got {real.name!r}.")
    if "dtype" in space and space["dtype"] not in _HELD:
        raise ValueError(f"a real entry has one of the dtypes {', '.join(_HELD)}; got {space['dtype']!r}.")
    shape = _checked_shape(space)
    values = 1 if space["kind"] == "Discrete" else math.prod(shape)
    if not _choices_fit(space, spec, values):
        raise ValueError(f"{space!r} does not fit its spec of shape {tuple(spec.shape)}.")


_ENTRIES: dict[Any, set[str]] = {
    "Box": {"kind", "dtype", "shape", "low", "high"},
    "Discrete": {"kind", "dtype", "n", "start"},
    "MultiDiscrete": {"kind", "dtype", "shape", "n", "start"},
    "MultiBinary": {"kind", "n"},
}
"""What JSON holds of each kind of space."""


def _checked_shape(space: Mapping[str, Any]) -> list[int]:
    shape = space["n"] if space["kind"] == "MultiBinary" else space.get("shape", [])
    shape = [shape] if type(shape) is int else shape
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"a shape is a list of sizes; got {shape!r}.")
    return shape


def _choices_fit(space: Mapping[str, Any], spec: TensorSpec, values: int) -> bool:
    """Whether a space of so many values has the choices of a spec, and a number for each value where it has lists."""
    if "start" in space:
        choices = space["n"] if isinstance(space["n"], list) else [space["n"]]
        fits = sizes_of(spec) == choices
    else:
        fits = not sizes_of(spec) and values == spec.shape.numel()
    if space["kind"] == "MultiBinary":
        return fits
    lists = [value for key, value in space.items() if key != "shape" and isinstance(value, list)]
    return fits and all(len(value) in (1, values) for value in lists)


def marked(spec: TensorSpec, real: Real | None) -> TensorSpec:
    """A copy of a spec that remembers the real entry it stands for.

    torchrl's own ``clone``, ``expand`` and ``to`` forget it; ``copy.deepcopy``, pickles and saved models do not.
    """
    spec = copy.deepcopy(spec)
    setattr(spec, _MARK, real)
    return spec


def spec_of(space: Any, where: str, name: str | None = None) -> TensorSpec:
    """The spec of one real entry, marked where the way back needs more than it says.

    Args:
        space: ``Box``, ``Discrete``, ``MultiDiscrete`` or ``MultiBinary``.
        where: what the entry is called in an error.
        name: its name in a ``Dict``.

    Raises:
        SpaceError: if no tensor holds its values.
    """
    spec = _plain_spec(space, where)
    alike = space_of(spec) == space and space_of(spec).dtype == space.dtype
    # A Dict with a single entry of a bare observation's name would come back bare.
    return spec if alike and name not in BARE_KEYS else marked(spec, Real(to_json(space), name))


BARE_KEYS = ("observation", "pixels", "latent")
"""Names that stand for a bare (not Dict) observation when they are the only entry."""


def _plain_spec(space: Any, where: str) -> TensorSpec:
    spaces = require("gymnasium.spaces", extra="gym")
    if isinstance(space, spaces.Discrete):
        return OneHot(int(space.n), dtype=torch.int64)
    if isinstance(space, spaces.MultiDiscrete):
        sizes = [int(size) for size in space.nvec.flatten()]
        return OneHot(sizes[0], dtype=torch.int64) if len(sizes) == 1 else MultiOneHot(sizes, dtype=torch.int64)
    if isinstance(space, spaces.MultiBinary):
        return Binary(space.shape[-1], shape=torch.Size(space.shape), dtype=torch.int8)
    dtype = _HELD.get(space.dtype.name)
    if dtype is None or (space.dtype.name == "uint64" and int(space.high.max(initial=0)) > np.iinfo(np.int64).max):
        raise SpaceError(
            f"{where} is {space}, and no tensor computes with {space.dtype}: wrap the environment in "
            f"gymnasium.wrappers.TransformObservation (or TransformAction) with a Box of float32 or int64."
        )
    shape = torch.Size(space.shape or (1,))  # as TorchRL shows one number
    if dtype is torch.bool:
        return Unbounded(shape, dtype=dtype)
    low, high = (torch.from_numpy(np.asarray(bound).astype(_numpy(dtype))) for bound in (space.low, space.high))
    if _says_nothing(low, high):
        return Unbounded(shape, dtype=dtype)
    return Bounded(low.reshape(shape), high.reshape(shape), shape, dtype=dtype)


def _says_nothing(low: Tensor, high: Tensor) -> bool:
    """Whether bounds are those of the dtype itself."""
    limits = torch.finfo(low.dtype) if low.dtype.is_floating_point else torch.iinfo(low.dtype)
    return bool((low <= limits.min).all() and (high >= limits.max).all())


def space_of(spec: TensorSpec) -> Any:
    """The Gymnasium space of one entry: the real one if the spec remembers it, else what the spec says.

    Raises:
        SpaceError: if the spec has no Gymnasium counterpart, or remembers a space that it cannot stand for.
    """
    real = real_of(spec)
    if real is None:
        return _plain_space(spec)
    space = from_json(real.space)
    if not stands_for(spec, space):
        raise SpaceError(f"the spec {spec} does not stand for the space {space} that it was made from.")
    return space


def _plain_space(spec: TensorSpec) -> Any:
    spaces = require("gymnasium.spaces", extra="gym")
    dtype, shape = _numpy(spec.dtype), tuple(spec.shape)
    if _is_choice(spec):
        return _choice_space(spec)
    if isinstance(spec, Binary) and spec.dtype is torch.int8 and shape:
        return spaces.MultiBinary(shape if len(shape) > 1 else spec.shape.numel())
    if isinstance(spec, Binary) or spec.dtype is torch.bool:
        return spaces.Box(np.zeros(shape, dtype), np.ones(shape, dtype), shape, cast(Any, dtype))
    if isinstance(spec, Bounded):
        box = cast(Any, spec.space)
        low, high = (bound.expand(shape).cpu().numpy().astype(dtype) for bound in (box.low, box.high))
        return spaces.Box(low, high, shape, cast(Any, dtype))
    if isinstance(spec, Unbounded):
        if spec.dtype.is_floating_point:
            return spaces.Box(-np.inf, np.inf, shape, cast(Any, dtype))
        limits = np.iinfo(cast(Any, dtype))
        return spaces.Box(limits.min, limits.max, shape, cast(Any, dtype))
    raise SpaceError(f"no Gymnasium space stands for {type(spec).__name__}; supported are numbers, images and choices.")


def _is_choice(spec: TensorSpec) -> bool:
    kinds = OneHot | MultiOneHot | Categorical | MultiCategorical
    return isinstance(spec, kinds) and not isinstance(spec, Binary)


def _choice_space(spec: TensorSpec) -> Any:
    spaces = require("gymnasium.spaces", extra="gym")
    sizes, shape = sizes_of(spec), tuple(spec.shape)
    if isinstance(spec, MultiOneHot):
        shape = (len(sizes),)
    elif isinstance(spec, OneHot):
        shape = shape[:-1]
    return spaces.MultiDiscrete(np.array(sizes).reshape(shape)) if shape else spaces.Discrete(sizes[0])


def sizes_of(spec: TensorSpec) -> list[int]:
    """The numbers of alternatives of each choice in an entry made of choices, flat; empty for another entry.

    Raises:
        SpaceError: for several unequal choices in a tensor of more than one dimension.
    """
    if isinstance(spec, MultiOneHot | MultiCategorical) and len(spec.shape) != 1:
        raise SpaceError(f"unequal choices stand side by side in one vector; got shape {tuple(spec.shape)}.")
    if isinstance(spec, MultiOneHot):
        return [int(box.n) for box in cast(Any, spec.space)]
    if isinstance(spec, OneHot):
        return [int(cast(Any, spec.space).n)] * math.prod(spec.shape[:-1])
    if isinstance(spec, MultiCategorical):
        return [int(size) for size in spec.nvec.flatten()]
    if isinstance(spec, Categorical) and not isinstance(spec, Binary):
        return [int(cast(Any, spec.space).n)] * math.prod(spec.shape)
    return []


def stands_for(spec: TensorSpec, space: Any) -> bool:
    """Whether tensors of a spec hold the values of a space, one for one."""
    spaces = require("gymnasium.spaces", extra="gym")
    if isinstance(spec, OneHot | Categorical) and not isinstance(spec, Binary):
        if isinstance(space, spaces.Discrete):
            return sizes_of(spec) == [int(space.n)]
        return isinstance(space, spaces.MultiDiscrete) and sizes_of(spec) == space.nvec.flatten().tolist()
    if isinstance(space, spaces.MultiBinary):
        return isinstance(spec, Binary) and spec.shape.numel() == math.prod(space.shape)
    if not isinstance(space, spaces.Box) or not isinstance(spec, Binary | Bounded | Unbounded):
        return False
    same_shape = tuple(spec.shape) in {tuple(space.shape), tuple(space.shape) or (1,)}
    if not same_shape or spec.dtype not in {_HELD.get(space.dtype.name), _own(space.dtype)}:
        return False
    return not isinstance(spec, Bounded) or spec.dtype is torch.bool or _same_bounds(spec, space)


def _same_bounds(spec: Bounded, space: Any) -> bool:
    box = cast(Any, spec.space)
    own = ((box.low, space.low), (box.high, space.high))
    return all(np.allclose(mine.expand(spec.shape).cpu().numpy().reshape(space.shape), real) for mine, real in own)


def to_json(space: Any) -> dict[str, Any]:
    """A space of one entry as plain JSON; :func:`from_json` is the way back."""
    spaces = require("gymnasium.spaces", extra="gym")
    dtype = space.dtype.name
    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "dtype": dtype, "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        shape, start = list(space.nvec.shape), space.start.flatten().tolist()
        return {
            "kind": "MultiDiscrete",
            "dtype": dtype,
            "shape": shape,
            "n": space.nvec.flatten().tolist(),
            "start": start,
        }
    if isinstance(space, spaces.MultiBinary):
        return {"kind": "MultiBinary", "n": list(space.shape) if isinstance(space.n, tuple) else int(space.n)}
    low, high = (_bound(bound) for bound in (space.low, space.high))
    return {"kind": "Box", "dtype": dtype, "shape": list(space.shape), "low": low, "high": high}


def from_json(content: Mapping[str, Any]) -> Any:
    """The space that :func:`to_json` wrote down.

    Raises:
        ValueError, TypeError, KeyError: if it is not what that function writes.
    """
    spaces = require("gymnasium.spaces", extra="gym")
    kind = content["kind"]
    if kind == "Discrete":
        dtype = np.dtype(content["dtype"])
        # Gymnasium before 1.2 has no dtype of its own here; it counts in int64.
        own = {} if dtype == np.int64 else {"dtype": dtype.type}
        return spaces.Discrete(content["n"], start=content["start"], **own)
    if kind == "MultiBinary":
        return spaces.MultiBinary(content["n"])
    shape = tuple(content["shape"])
    if kind == "MultiDiscrete":
        sizes, start = (np.array(content[name]).reshape(shape) for name in ("n", "start"))
        return spaces.MultiDiscrete(sizes, dtype=np.dtype(content["dtype"]).type, start=start)
    if kind == "Box":
        dtype = np.dtype(content["dtype"])
        low, high = (_unbound(content[name], shape, dtype) for name in ("low", "high"))
        return spaces.Box(low, high, shape, dtype.type)
    raise ValueError(f"unknown kind of space {kind!r}.")


class EntryCodec:
    """Values of one entry, between its Gymnasium space and its spec; with any leading dims, arrays and tensors alike.

    Args:
        spec: of one row.
        device: where tensors go.

    Attributes:
        space: see :func:`space_of`.
        is_choice: whether values are numbers of alternatives.
        sizes: alternatives of each choice, flat.
        start: the first number of each choice, an array of the space's shape.
        is_same: whether arrays of the space are tensors of the spec as they stand.
    """

    def __init__(self, spec: TensorSpec, device: torch.device | None = None) -> None:
        self.spec, self.space = spec, space_of(spec)
        self.sizes = sizes_of(spec)
        self.is_choice = bool(self.sizes)
        self.shape: tuple[int, ...] = tuple(self.space.shape)
        self.start = np.asarray(self.space.start) if self.is_choice else np.zeros(self.shape, np.int64)
        self._inner, self._dtype = tuple(spec.shape), self.space.dtype
        self._offset = torch.as_tensor(self.start.astype(np.int64), device=device) if self.start.any() else None
        hot = self.sizes if isinstance(spec, OneHot) else []
        self._tables = [torch.eye(size, dtype=spec.dtype, device=device) for size in hot]
        self.is_same = not self.is_choice and self._inner == self.shape and _numpy(spec.dtype) == self._dtype

    def read(self, value: Tensor) -> Tensor:
        """Values of the space ``[rows, *space.shape]`` as the spec holds them, ``[rows, *spec.shape]``."""
        if not self.is_choice:
            value = value if value.dtype is self.spec.dtype else value.to(self.spec.dtype)
            return value if self._inner == self.shape else value.reshape(len(value), *self._inner)
        # An index of bytes would be taken for a mask.
        index = value if value.dtype is torch.int64 else value.to(torch.int64)
        if self._offset is not None:
            index = index - self._offset
        if not self._tables:
            return index.to(self.spec.dtype).reshape(len(value), *self._inner)
        if len(self._tables) == 1:
            hot = self._tables[0][index if index.ndim == 1 else index.reshape(-1)]
            return hot if len(self._inner) == 1 else hot.reshape(len(value), *self._inner)
        columns = index.reshape(len(value), -1).unbind(-1)
        hot = torch.cat([table[column] for table, column in zip(self._tables, columns, strict=True)], dim=-1)
        return hot.reshape(len(value), *self._inner)

    def write(self, value: Any) -> Any:
        """Values of the spec ``[*lead, *spec.shape]`` as the space shows them, ``[*lead, *space.shape]``."""
        if self.is_same:
            return value
        lead = tuple(value.shape[: value.ndim - len(self._inner)])
        if self._tables:
            value = self._indices(value.reshape((*lead, -1)))
        if tuple(value.shape) != (*lead, *self.shape):
            value = value.reshape((*lead, *self.shape))
        if self._offset is not None:
            value = value + (self._offset.to(value.device) if isinstance(value, Tensor) else self.start)
        return _cast(value, self._dtype)

    def _indices(self, flat: Any) -> Any:
        if isinstance(flat, Tensor):
            flat = flat.to(torch.uint8)  # torch finds no argmax of booleans
        if len(self.sizes) == 1:
            return flat.argmax(-1)
        stack = torch.stack if isinstance(flat, Tensor) else np.stack
        ends = np.cumsum(self.sizes)
        return stack([flat[..., end - size : end].argmax(-1) for size, end in zip(self.sizes, ends, strict=True)], -1)


def _cast(value: Any, dtype: np.dtype) -> Any:
    if isinstance(value, Tensor):
        own = _own(dtype)
        return value if own is None or value.dtype is own else value.to(own)
    return value.astype(dtype, copy=False)


def _numpy(dtype: torch.dtype | None) -> np.dtype:
    return torch.empty(0, dtype=dtype).numpy().dtype


def _own(dtype: np.dtype) -> torch.dtype | None:
    """The torch dtype of the same name, if there is one."""
    return getattr(torch, dtype.name, None)


def _bound(bound: np.ndarray) -> Any:
    """A bound as one number where all entries agree, else as a flat list; infinities as strings."""
    values = bound.flatten().tolist()
    if values and all(value == values[0] for value in values):
        values = values[:1]
    readable = [repr(value) if isinstance(value, float) and math.isinf(value) else value for value in values]
    return readable[0] if len(readable) == 1 else readable


def _unbound(value: Any, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    values = [float(one) if one in ("inf", "-inf") else one for one in (value if isinstance(value, list) else [value])]
    flat = np.array(values, dtype=dtype)
    return np.full(shape, flat[0], dtype) if len(flat) == 1 else flat.reshape(shape)
