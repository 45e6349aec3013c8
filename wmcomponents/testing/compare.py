"""When two results count as the same: equal up to the rounding that another batch layout may bring."""

from collections.abc import Mapping

import torch
from torch import Tensor

# Sums over a batch are ordered by the kernel that its size selects; float32 results then differ in the last digits.
# Whatever leaks between rows or out of the past is larger by orders of magnitude.
TOLERANCE = 1e-5
# An integer output (an image) rounds a float output; where that lies on the edge, the last digit may flip.
FLIPS = 1e-3


def difference(got: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """What differs beyond rounding between two sets of named tensors, in words; empty if nothing does."""
    for name in wanted:
        text = _tensor_difference(got[name], wanted[name]) if name in got else "missing"
        if text:
            return f"{name}: {text}"
    return ""


def differs(got: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> bool:
    """Whether anything differs beyond rounding."""
    return bool(difference(got, wanted))


def deviates(got: Tensor, wanted: Tensor) -> Tensor:
    """Which elements differ beyond rounding; bool, of the tensors' shape."""
    if not wanted.dtype.is_floating_point:
        return got != wanted
    a, b = got.double(), wanted.double()
    finite = b[torch.isfinite(b)].abs()
    scale = max(1.0, float(finite.max()) if finite.numel() else 1.0)
    tolerance = max(TOLERANCE, 8 * torch.finfo(wanted.dtype).eps) * (1 if wanted.device.type == "cpu" else 100)
    return ~torch.isclose(a, b, rtol=tolerance, atol=tolerance * scale, equal_nan=True)


def _tensor_difference(got: Tensor, wanted: Tensor) -> str:
    if got.shape != wanted.shape:
        return f"shape {tuple(got.shape)} against {tuple(wanted.shape)}"
    off = deviates(got, wanted)
    count = int(off.sum())
    if not wanted.dtype.is_floating_point and wanted.dtype is not torch.bool:
        apart = (got.long() - wanted.long()).abs()
        if count <= FLIPS * wanted.numel() and (count == 0 or int(apart.max()) <= 1):
            return ""
    if count == 0:
        return ""
    place = tuple(off.nonzero()[0].tolist())
    values = f"{got[place].item()} against {wanted[place].item()}"
    return f"{count} of {wanted.numel()} entries differ, first at {place}: {values}"
