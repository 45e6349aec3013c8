"""Images of few bits, and the noise that fills the gaps between their levels."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor


def dequantized(
    pixels: UInt8[Tensor, "*shape"], noise: Float[Tensor, "*shape"] | None = None, bits: int = 5
) -> Float[Tensor, "*shape"]:
    r"""Pixels of ``bits`` bits in [0, 1), with uniform noise of the width of one level (PlaNet).

    .. math:: y = \lfloor x / 2^{8 - b} \rfloor / 2^b + u / 2^b

    The paper's network sees :math:`y - 1/2`. Noise keeps a density model from putting all its mass on the levels
    (Kingma and Dhariwal, Glow, 2018).

    Args:
        pixels: 0 to 255.
        noise: u, uniform in [0, 1), one number a pixel; None: its mean, 1/2.
        bits: of the result, at most 8.
    """
    levels = (pixels // 2 ** (8 - bits)).to(torch.float32)
    return (levels + (0.5 if noise is None else noise)) / 2**bits


def quantized(x: Float[Tensor, "*shape"], bits: int = 5) -> Float[Tensor, "*shape"]:
    """The level that a number in [0, 1) belongs to, as a pixel value 0 to 255: the way back from :func:`dequantized`.

    Args:
        x: numbers outside [0, 1) count as the nearest inside.
        bits: of the image.
    """
    return (x * 2**bits).floor().mul(2 ** (8 - bits)).clamp(0.0, 255.0)
