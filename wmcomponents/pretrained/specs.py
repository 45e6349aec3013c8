"""Torchrl specs as plain JSON, and back; with what they remember of the real environment's spaces."""

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
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

from wmcomponents.codecs import Real, check_real, marked, real_of

LARGEST_SPEC = 2**26
"""Numbers in one observation or action."""

_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    )
}


def spec_to_json(spec: TensorSpec) -> dict[str, Any]:
    """A torchrl spec as plain JSON.

    Raises:
        TypeError: for a kind of spec that no model here observes or takes as action.
        ValueError: if it describes more than 2**26 numbers.
    """
    if elements(spec) > LARGEST_SPEC:
        raise ValueError(f"a spec of {elements(spec):,} numbers cannot be saved; at most {LARGEST_SPEC:,} can.")
    return _spec_to_json(spec)


def spec_from_json(content: Mapping[str, Any]) -> TensorSpec:
    """The inverse of :func:`spec_to_json`.

    Raises:
        ValueError, TypeError, KeyError: if it is not what that function writes.
    """
    if _stated(content) > LARGEST_SPEC:
        raise ValueError(f"a spec of more than {LARGEST_SPEC:,} numbers.")
    return _spec_from_json(content)


def _spec_to_json(spec: TensorSpec) -> dict[str, Any]:
    if isinstance(spec, Composite):
        entries = {str(key): _spec_to_json(leaf) for key, leaf in spec.items()}
        # Files sort the keys of their objects, and the order of a real environment's entries is part of its space.
        order = {} if list(entries) == sorted(entries) else {"order": list(entries)}
        return {"kind": "Composite", "entries": entries, **order}
    content: dict[str, Any] = {"shape": list(spec.shape), "dtype": str(spec.dtype).removeprefix("torch.")}
    real = real_of(spec)
    if real is not None:
        content["real"] = {"space": dict(real.space), "name": real.name}
    space: Any = spec.space
    if isinstance(spec, MultiOneHot):
        return {**content, "kind": "MultiOneHot", "n": [box.n for box in space]}
    if isinstance(spec, MultiCategorical):
        return {**content, "kind": "MultiCategorical", "n": cast(Any, spec.nvec).tolist()}
    if isinstance(spec, OneHot):
        return {**content, "kind": "OneHot", "n": space.n}
    if isinstance(spec, Binary):
        return {**content, "kind": "Binary"}
    if isinstance(spec, Categorical):
        return {**content, "kind": "Categorical", "n": space.n}
    if isinstance(spec, Bounded):
        return {**content, "kind": "Bounded", "low": _bound(space.low), "high": _bound(space.high)}
    if isinstance(spec, Unbounded):
        return {**content, "kind": "Unbounded"}
    raise TypeError(
        f"a spec of type {type(spec).__name__} cannot be saved; use Bounded, Unbounded, OneHot or their like."
    )


def _spec_from_json(content: Mapping[str, Any]) -> TensorSpec:
    if content["kind"] == "Composite":
        entries = content["entries"]
        order = content.get("order", list(entries))
        if not isinstance(order, list) or len(order) != len(entries) or set(order) != set(entries):
            raise ValueError(f"the order of entries has each of {list(entries)} once; got {order!r}.")
        return Composite({key: _spec_from_json(entries[key]) for key in order})
    spec = _leaf_from_json(content)
    if "real" not in content:
        return spec
    real = Real(content["real"]["space"], content["real"]["name"])
    check_real(real, spec)
    return marked(spec, real)


def _leaf_from_json(content: Mapping[str, Any]) -> TensorSpec:
    kind = content["kind"]
    shape, dtype = torch.Size(content["shape"]), _DTYPES[content["dtype"]]
    if kind == "MultiOneHot":
        return MultiOneHot(content["n"], shape=shape, dtype=dtype)
    if kind == "MultiCategorical":
        return MultiCategorical(torch.tensor(content["n"]), shape=shape, dtype=dtype)
    if kind == "OneHot":
        return OneHot(content["n"], shape=shape, dtype=dtype)
    if kind == "Binary":
        return Binary(shape=shape, dtype=dtype)
    if kind == "Categorical":
        return Categorical(content["n"], shape=shape, dtype=dtype)
    if kind == "Bounded":
        low, high = (_unbound(content[name], shape, dtype) for name in ("low", "high"))
        return Bounded(low, high, shape, dtype=dtype)
    if kind == "Unbounded":
        return Unbounded(shape, dtype=dtype)
    raise ValueError(f"unknown kind of spec {kind!r}.")


def elements(spec: TensorSpec) -> int:
    """Numbers in one observation or action."""
    leaves = spec.values(True, True) if isinstance(spec, Composite) else [spec]
    return sum(math.prod(leaf.shape) for leaf in leaves)


def _stated(content: Mapping[str, Any]) -> int:
    """Numbers in an observation, as JSON states it: asked before anything of that size exists."""
    if content["kind"] == "Composite":
        return sum(_stated(leaf) for leaf in content["entries"].values())
    shape = content["shape"]
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"a shape is a list of sizes; got {shape!r}.")
    return math.prod(shape)


def _bound(bound: Tensor) -> Any:
    """A bound as one number where all entries agree, else as a flat list; infinities as strings."""
    values = bound.flatten().tolist()
    if values and all(value == values[0] for value in values):
        values = values[:1]
    readable = [repr(value) if isinstance(value, float) and math.isinf(value) else value for value in values]
    return readable[0] if len(readable) == 1 else readable


def _unbound(value: Any, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    values = [float(one) if one in ("inf", "-inf") else one for one in (value if isinstance(value, list) else [value])]
    flat = torch.tensor(values, dtype=dtype)
    return flat.expand(shape).clone() if flat.numel() == 1 else flat.reshape(shape)
