"""A codebook that begins with what real frames look like."""

import torch
from jaxtyping import UInt8
from torch import Tensor

from wmcomponents.nn import LearnedCosineQuantizer, VectorQuantizer, farthest_first
from wmcomponents.tokenizers import ImageTokenizer
from wmcomponents.tokenizers.image import network_image

LearnedCodes = VectorQuantizer | LearnedCosineQuantizer
"""Quantizers whose codebook learns by gradient."""

FITTING_FRAMES = 256
"""Real frames out of which a codebook begins."""


@torch.no_grad()
def codes_from_frames_(
    tokenizer: ImageTokenizer[VectorQuantizer] | ImageTokenizer[LearnedCosineQuantizer],
    pixels: UInt8[Tensor, "*batch h w c"],
) -> None:
    """Let a codebook begin with vectors of real frames that lie far apart, instead of small random numbers.

    Args:
        tokenizer: whose codebook is filled.
        pixels: frames, of which some are taken, evenly spread.
    """
    quantizer, codebook = tokenizer.quantizer, tokenizer.quantizer.codebook
    frames = pixels.flatten(0, pixels.ndim - 4)
    chosen = torch.linspace(0, frames.shape[0] - 1, min(FITTING_FRAMES, frames.shape[0])).long()
    z = quantizer.compared(tokenizer.encode(network_image(frames[chosen].to(codebook.device))))
    codebook.copy_(farthest_first(z.flatten(0, 1), codebook.shape[0]))
