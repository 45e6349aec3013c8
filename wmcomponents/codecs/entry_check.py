"""What a file says of a real entry, compared with its spec before any space is built."""

import math
from collections.abc import Mapping
from typing import Any

from torchrl.data import TensorSpec

from wmcomponents.codecs.dtypes import HELD
from wmcomponents.codecs.entry import Real, sizes_of
from wmcomponents.codecs.space_json import FIELDS


def check_real(real: Real, spec: TensorSpec) -> None:
    """Refuse what :func:`~wmcomponents.codecs.space_json.to_json` would not have written for a spec.

    Raises:
        ValueError: saying what is wrong.
    """
    space = real.space
    if not isinstance(space, Mapping) or set(space) != FIELDS.get(space.get("kind")):
        raise ValueError(f"a real space is one of {', '.join(FIELDS)} with its own entries; got {space!r}.")
    if real.name is not None and not isinstance(real.name, str):
        raise ValueError(f"the name of a real entry is a string; got {real.name!r}.")
    if "dtype" in space and space["dtype"] not in HELD:
        raise ValueError(f"a real entry has one of the dtypes {', '.join(HELD)}; got {space['dtype']!r}.")
    shape = _checked_shape(space)
    values = 1 if space["kind"] == "Discrete" else math.prod(shape)
    if not _choices_fit(space, spec, values):
        raise ValueError(f"{space!r} does not fit its spec of shape {tuple(spec.shape)}.")


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
