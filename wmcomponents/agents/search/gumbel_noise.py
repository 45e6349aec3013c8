"""Standard Gumbel noise from a caller's own generator."""

from collections.abc import Sequence

import torch
from torch import Tensor


def gumbel(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Noise of this shape, on the generator's device."""
    drawn = torch.rand(shape, generator=generator, device=generator.device)
    tiny = torch.finfo(drawn.dtype).tiny
    return -(-drawn.clamp(min=tiny).log()).clamp(min=tiny).log()
