"""Whether a value lies in a Gymnasium space, in words, with the dtype taken at its word."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from gymnasium import spaces

from wmcomponents.testing.env_drivers.player import array


def violation(space: Any, value: Any, name: str = "observation") -> str:
    """What is wrong with a value; empty if it lies in the space.

    Stricter than ``space.contains``, which lets another dtype pass where it can be cast.

    Args:
        space: the space, of one row or of a batch.
        value: NumPy arrays, or tensors.
        name: what to call the value.
    """
    if isinstance(space, spaces.Dict):
        if not isinstance(value, dict) or set(value) != set(space.keys()):
            got = sorted(value) if isinstance(value, dict) else type(value).__name__
            return f"{name} has {got} where the space has {sorted(space.keys())}"
        return _first(violation(space[key], value[key], f"{name}[{key!r}]") for key in space.keys())
    if isinstance(space, spaces.Tuple):
        if not isinstance(value, tuple) or len(value) != len(space):
            return f"{name} is no tuple of {len(space)}"
        return _first(violation(space[i], entry, f"{name}[{i}]") for i, entry in enumerate(value))
    return _violation_of_array(space, value, name)


def _first(faults: Iterable[str]) -> str:
    return next(filter(None, faults), "")


def _violation_of_array(space: Any, value: Any, name: str) -> str:
    values = array(value)
    if values.dtype == object:
        return f"{name} is {type(value).__name__}, no array of numbers"
    if space.shape is not None and tuple(values.shape) != tuple(space.shape):
        return f"{name} has shape {tuple(values.shape)} where the space has {tuple(space.shape)}"
    counts = isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)) and values.dtype.kind in "iu"
    if space.dtype is not None and values.dtype != space.dtype and not counts:
        return f"{name} is {values.dtype} where the space is {space.dtype}"
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        return ""
    inside = space.contains(int(values)) if isinstance(space, spaces.Discrete) else space.contains(values)
    return "" if inside else f"{name} lies outside {space}: from {values.min()} to {values.max()}"


def infinite(value: dict[str, np.ndarray]) -> str:
    """Which entries are NaN or infinite; empty if none."""
    return ", ".join(key for key, rows in value.items() if rows.dtype.kind == "f" and not np.isfinite(rows).all())
