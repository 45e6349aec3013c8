"""Images moved by a few pixels, images brightened and darkened: augmentations."""

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor


def shifted_images(
    images: Shaped[Tensor, "*batch h w c"], shift: Int[Tensor, "*batch 2"], pad: int = 3
) -> Shaped[Tensor, "*batch h w c"]:
    """Images padded at all sides by their border, and cut out again from another place.

    Args:
        images: of any dtype.
        shift: where the cut begins in the padded image, (x, y) from 0 to ``2 * pad``; ``pad`` is the image itself.
        pad: pixels added at each side.

    Reference: Kostrikov, Yarats, Fergus, Image Augmentation Is All You Need (DrQ, 2020); Yarats et al., DrQ-v2 (2021).
    """
    flat, (height, width) = images.flatten(0, -4) if images.ndim > 3 else images[None], images.shape[-3:-1]
    x, y = shift.reshape(-1, 2, 1).unbind(1)
    # Pixels beyond the border are those of the border: clamping the index does the padding.
    x = (x + torch.arange(width, device=images.device) - pad).clamp(0, width - 1)
    y = (y + torch.arange(height, device=images.device) - pad).clamp(0, height - 1)
    rows = torch.arange(flat.shape[0], device=images.device)[:, None, None]
    return flat[rows, y[:, :, None], x[:, None, :]].reshape(images.shape)


def rolled_images(
    images: Shaped[Tensor, "*batch h w c"], shift: Int[Tensor, "*batch 2"]
) -> Shaped[Tensor, "*batch h w c"]:
    """Images moved around a torus: what leaves at one side comes in at the other, so that nothing is lost.

    Args:
        images: of any dtype.
        shift: by how many pixels each moves to the right and down, (x, y).

    >>> rolled_images(torch.arange(3.0).view(1, 3, 1), torch.tensor([1, 0])).flatten().tolist()
    [2.0, 0.0, 1.0]
    """
    flat, (height, width) = images.flatten(0, -4) if images.ndim > 3 else images[None], images.shape[-3:-1]
    x, y = shift.reshape(-1, 2, 1).unbind(1)
    x = (torch.arange(width, device=images.device) - x) % width
    y = (torch.arange(height, device=images.device) - y) % height
    rows = torch.arange(flat.shape[0], device=images.device)[:, None, None]
    return flat[rows, y[:, :, None], x[:, None, :]].reshape(images.shape)


def scaled_brightness(
    images: Float[Tensor, "*batch h w c"], normal: Float[Tensor, "*batch"], scale: float
) -> Float[Tensor, "*batch h w c"]:
    """Images times a random number near one: ``1 + scale * normal``, with the normal cut off at ±2.

    Args:
        images: black is 0.
        normal: noise of the standard normal distribution, one number an image.
        scale: standard deviation of the factor before it is cut off.

    Reference: Kostrikov, Yarats, Fergus, Image Augmentation Is All You Need (DrQ, 2020), appendix E, "intensity".
    """
    return images * (1.0 + scale * normal.clamp(-2.0, 2.0))[..., None, None, None]
