"""One entry of an environment's spaces: its torchrl spec and its Gymnasium space."""

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
from wmcomponents.codecs.dtypes import HELD, numpy_dtype, torch_dtype
from wmcomponents.codecs.space_json import from_json, to_json

_MARK = "_wmcomponents_real"


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
    return _numbers_spec(space, where)


def _numbers_spec(space: Any, where: str) -> TensorSpec:
    """The spec of a ``Box``."""
    dtype = HELD.get(space.dtype.name)
    if dtype is None or (space.dtype.name == "uint64" and int(space.high.max(initial=0)) > np.iinfo(np.int64).max):
        raise SpaceError(
            f"{where} is {space}, and no tensor computes with {space.dtype}: wrap the environment in "
            f"gymnasium.wrappers.TransformObservation (or TransformAction) with a Box of float32 or int64."
        )
    shape = torch.Size(space.shape or (1,))  # as TorchRL shows one number
    if dtype is torch.bool:
        return Unbounded(shape, dtype=dtype)
    low, high = (torch.from_numpy(np.asarray(bound).astype(numpy_dtype(dtype))) for bound in (space.low, space.high))
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
    dtype, shape = numpy_dtype(spec.dtype), tuple(spec.shape)
    if _is_choice(spec):
        return _choice_space(spec)
    if isinstance(spec, Binary) or spec.dtype is torch.bool:
        return _bits_space(spec)
    if isinstance(spec, Bounded):
        box = cast(Any, spec.space)
        low, high = (bound.expand(shape).cpu().numpy().astype(dtype) for bound in (box.low, box.high))
        return spaces.Box(low, high, shape, cast(Any, dtype))
    if isinstance(spec, Unbounded):
        is_float = spec.dtype.is_floating_point
        low, high = (-np.inf, np.inf) if is_float else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        return spaces.Box(low, high, shape, cast(Any, dtype))
    raise SpaceError(f"no Gymnasium space stands for {type(spec).__name__}; supported are numbers, images and choices.")


def _bits_space(spec: TensorSpec) -> Any:
    spaces = require("gymnasium.spaces", extra="gym")
    dtype, shape = numpy_dtype(spec.dtype), tuple(spec.shape)
    if isinstance(spec, Binary) and spec.dtype is torch.int8 and shape:
        return spaces.MultiBinary(shape if len(shape) > 1 else spec.shape.numel())
    return spaces.Box(np.zeros(shape, dtype), np.ones(shape, dtype), shape, cast(Any, dtype))


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
    return isinstance(space, spaces.Box) and isinstance(spec, Binary | Bounded | Unbounded) and _fits_box(spec, space)


def _fits_box(spec: TensorSpec, space: Any) -> bool:
    """Whether tensors of a spec of numbers or bits hold the values of a ``Box``."""
    same_shape = tuple(spec.shape) in {tuple(space.shape), tuple(space.shape) or (1,)}
    if not same_shape or spec.dtype not in {HELD.get(space.dtype.name), torch_dtype(space.dtype)}:
        return False
    return not isinstance(spec, Bounded) or spec.dtype is torch.bool or _same_bounds(spec, space)


def _same_bounds(spec: Bounded, space: Any) -> bool:
    box = cast(Any, spec.space)
    own = ((box.low, space.low), (box.high, space.high))
    return all(np.allclose(mine.expand(spec.shape).cpu().numpy().reshape(space.shape), real) for mine, real in own)
