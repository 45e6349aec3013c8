"""Frames as a browser takes them, and what is laid over them."""

import io
from typing import NamedTuple

import numpy as np

from wmcomponents._extras import require

SMALL = 128 * 128
"""Frames of so many pixels at most are sent as they are to the last bit: they are enlarged on the screen."""

QUALITY = 92
"""Of a JPEG, with full colour at every pixel."""

HEAT = np.array([255.0, 0.0, 210.0])
"""The colour of what is laid over a frame."""


class Picture(NamedTuple):
    """An encoded frame.

    Attributes:
        kind: its MIME type.
        data: its bytes.
        size: width and height, in pixels.
    """

    kind: str
    data: bytes
    size: tuple[int, int]


def encoded(frame: np.ndarray) -> Picture:
    """A frame, uint8 ``(H, W, 3)``, as lossless WebP where it is small, else as JPEG: a fraction of a millisecond.

    Raises:
        MissingExtraError: if Pillow is not installed.
    """
    image_module = require("PIL.Image", extra="play")
    height, width = frame.shape[:2]
    image, file = image_module.fromarray(np.ascontiguousarray(frame)), io.BytesIO()
    if height * width <= SMALL:
        image.save(file, "WEBP", lossless=True, method=0, quality=0)
        return Picture("image/webp", file.getvalue(), (width, height))
    image.save(file, "JPEG", quality=QUALITY, subsampling=0)
    return Picture("image/jpeg", file.getvalue(), (width, height))


def heated(frame: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A frame under a glow.

    Args:
        frame: uint8 ``(H, W, 3)``.
        heat: in [0, 1], ``(H, W)``; 0 leaves a pixel as it is.
    """
    share = 0.8 * heat[..., None]
    return ((1 - share) * frame + share * HEAT).round().astype(np.uint8)
