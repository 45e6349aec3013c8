"""Which two axes of an observation are an image's height and width."""

import torch
from torch import Tensor

SMALLEST_IMAGE = 16  # with a shorter side, an image is a board: no pooling


def spatial_axis(shape: tuple[int, ...]) -> int | None:
    """The first of the two axes that are an image's height and width; None if no two can be.

    They stand side by side and are long, and the others are short: colours and frames. Of three long axes the last is
    the channels'.
    """
    long = [size >= SMALLEST_IMAGE for size in shape]
    if not 2 <= len(shape) <= 4:
        return None
    if len(shape) == 3 and long[0] and long[1]:
        return 0
    pairs = [axis for axis in range(len(shape) - 1) if long[axis] and long[axis + 1]]
    return pairs[0] if len(pairs) == 1 and sum(long) == 2 else None


def image_axes(
    shape: tuple[int, ...], dtype: torch.dtype, low: Tensor | None, high: Tensor | None
) -> tuple[int, int] | None:
    """The axes of height and width, if an observation is an image; None if it is not.

    Bytes are an image when two axes side by side have 16 and more and the others fewer; in another layout than
    (H, W, C) only if they also have all 256 levels. Floats are one in the same layouts if they range from 0 to 1 or
    from 0 to 255.

    Args:
        shape: shape in the environment.
        dtype: dtype in the environment.
        low: lower bounds, an array of the shape ``[*shape]``, or None.
        high: upper bounds, ``[*shape]``, or None.
    """
    first = spatial_axis(shape)
    if first is None:
        return None
    if dtype == torch.uint8 and len(shape) == 3 and first == 0:
        return 0, 1
    return (first, first + 1) if _has_levels(dtype, low, high) else None


def _has_levels(dtype: torch.dtype, low: Tensor | None, high: Tensor | None) -> bool:
    """Whether numbers are bytes from 0 to 255, or floats from 0 to 1 or 255."""
    if low is None or high is None or not (dtype == torch.uint8 or dtype.is_floating_point):
        return False
    tops = (255.0,) if dtype == torch.uint8 else (1.0, 255.0)
    return bool((low == 0).all()) and any(bool((high == top).all()) for top in tops)
