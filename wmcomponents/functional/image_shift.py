"""Pictures moved by a few pixels, an augmentation."""

import torch
from jaxtyping import Int, Shaped
from torch import Tensor


def shifted_images(
    images: Shaped[Tensor, "n c h w"], shift: Int[Tensor, "n 2"], pad: int = 3
) -> Shaped[Tensor, "n c h w"]:
    """Pictures padded at all sides by their border, and cut out again from another place.

    Args:
        images: of any dtype.
        shift: where the cut begins in the padded picture, (x, y) from 0 to ``2 * pad``; ``pad`` is the picture itself.
        pad: pixels added at each side.

    Reference: Kostrikov, Yarats, Fergus, Image Augmentation Is All You Need (DrQ, 2020); Yarats et al., DrQ-v2 (2021).
    """
    height, width = images.shape[-2:]
    # Pixels beyond the border are those of the border: an index does the padding.
    x = shift[:, :1] + torch.arange(width, device=images.device) - pad
    y = shift[:, 1:] + torch.arange(height, device=images.device) - pad
    x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    rows = torch.arange(images.shape[0], device=images.device)[:, None, None]
    moved = images.permute(0, 2, 3, 1)[rows, y[:, :, None], x[:, None, :]]
    return moved.permute(0, 3, 1, 2)
