"""Pictures as a vision transformer reads them."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.functional import interpolate

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Of the colours of ImageNet, for pixels from 0 to 1: what DINOv2, I-JEPA, V-JEPA and most of timm normalise by."""


class NormalizePixels(nn.Module):
    """From pixels as environments show them, 0 to 255 with channels last, to what a network reads, channels first.

    Args:
        mean: of each channel, for pixels from 0 to 1.
        std: of each channel.
        size: (height, width) to which other images are resized, bilinear and antialiased, after the normalisation; they
            keep their size if not given.

    Raises:
        ValueError: if there are not as many means as deviations. On call, if the last dimension is not the channels.

    Example:
        >>> NormalizePixels(size=(4, 4))(torch.zeros(2, 8, 8, 3, dtype=torch.uint8)).shape
        torch.Size([2, 3, 4, 4])
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        size: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if len(mean) != len(std):
            raise ValueError(f"each channel has a mean and a deviation; got {len(mean)} and {len(std)}.")
        self.size = None if size is None else tuple(size)
        self.register_buffer("mean", 255.0 * torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", 255.0 * torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, pixels: Shaped[Tensor, "*batch h w c"]) -> Float[Tensor, "*batch c h2 w2"]:
        """Normalised, and resized.

        Args:
            pixels: from 0 to 255.

        Raises:
            ValueError: if the last dimension is not the channels.
        """
        if pixels.ndim < 3 or pixels.shape[-1] != len(self.mean):
            raise ValueError(
                f"expected images of {len(self.mean)} channels, [..., height, width, channels]; got {[*pixels.shape]}: "
                f"move the channels to the end, or give a mean and deviation for each channel."
            )
        x = (pixels.movedim(-1, -3).to(self.mean.dtype) - self.mean) / self.std
        if self.size is None or x.shape[-2:] == self.size:
            return x
        flat = interpolate(x.reshape(-1, *x.shape[-3:]), size=self.size, mode="bilinear", antialias=True)
        return flat.view(*x.shape[:-2], *self.size)
