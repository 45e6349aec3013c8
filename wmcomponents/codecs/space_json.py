"""The Gymnasium space of one entry as plain JSON, and back."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from wmcomponents._extras import require

FIELDS: dict[Any, set[str]] = {
    "Box": {"kind", "dtype", "shape", "low", "high"},
    "Discrete": {"kind", "dtype", "n", "start"},
    "MultiDiscrete": {"kind", "dtype", "shape", "n", "start"},
    "MultiBinary": {"kind", "n"},
}
"""What JSON holds of each kind of space."""


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
