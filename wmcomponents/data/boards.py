"""Boards as images: planes of bits or small integers, one colour a plane."""

import numpy as np

PALETTE = np.array(
    [
        (31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189),
        (140, 86, 75), (227, 119, 194), (188, 189, 34), (23, 190, 207), (127, 127, 127),
    ],
    dtype=np.uint8,
)  # fmt: skip
"""Colours of planes, in order, repeated where there are more."""


def painted(planes: np.ndarray) -> np.ndarray:
    """Planes ``(H, W, C)`` on black as uint8 ``(H, W, 3)``; where several are set, the last is seen."""
    canvas = np.zeros((*planes.shape[:2], 3), dtype=np.uint8)
    for channel in range(planes.shape[-1]):
        canvas[planes[..., channel] > 0] = PALETTE[channel % len(PALETTE)]
    return canvas


def fitted(image: np.ndarray, size: int) -> np.ndarray:
    """An image ``(H, W, 3)`` in the middle of a black ``(size, size, 3)``, enlarged by the largest whole factor.

    Raises:
        ValueError: if it does not fit.
    """
    factor = size // max(image.shape[:2])
    if factor < 1:
        raise ValueError(f"a board of {image.shape[0]}x{image.shape[1]} needs an image of that size; got {size}.")
    large = image.repeat(factor, axis=0).repeat(factor, axis=1)
    canvas = np.zeros((size, size, 3), dtype=image.dtype)
    top, left = ((size - side) // 2 for side in large.shape[:2])
    canvas[top : top + large.shape[0], left : left + large.shape[1]] = large
    return canvas
