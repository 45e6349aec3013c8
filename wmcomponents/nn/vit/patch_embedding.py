"""Images and clips as tokens: a linear map of each patch, or of each tube of patches."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from wmcomponents.functional.patches import patch_grid


class PatchEmbedding(nn.Module):
    """One token for each patch of an image, or for each tubelet of a clip, in the order of time, row and column.

    Args:
        channels: of the input.
        dim: size of a token.
        patch: (height, width), or (time, height, width).

    Raises:
        ValueError: if the patch has neither two nor three axes. On call, if the input has other axes or channels, or
            patches do not fill it.

    Reference: Dosovitskiy et al., ViT (2021), eq. 1; Arnab et al., ViViT (2021), for tubelets.

    Example:
        >>> import torch
        >>> PatchEmbedding(3, 8, (2, 4, 4))(torch.zeros(1, 3, 4, 16, 8)).shape
        torch.Size([1, 16, 8])
    """

    def __init__(self, channels: int, dim: int, patch: Sequence[int]) -> None:
        super().__init__()
        if len(patch) not in (2, 3):
            raise ValueError(f"a patch is (height, width), or (time, height, width); got {tuple(patch)}.")
        self.channels, self.dim, self.patch = channels, dim, tuple(patch)
        conv = nn.Conv2d if len(patch) == 2 else nn.Conv3d
        self.proj = conv(channels, dim, self.patch, self.patch)  # pyright: ignore[reportArgumentType]

    def grid_of(self, x: Tensor) -> tuple[int, ...]:
        """Patches along each axis of an input ``[B, C, H, W]`` or ``[B, C, T, H, W]``.

        Raises:
            ValueError: if it has other axes or channels, or patches do not fill it.
        """
        axes = len(self.patch)
        if x.ndim != axes + 2 or x.shape[1] != self.channels:
            what = "images [B, C, H, W]" if axes == 2 else "clips [B, C, T, H, W]"
            raise ValueError(
                f"expected {what} of {self.channels} channels, channels before height and width; got {[*x.shape]}."
            )
        return patch_grid(x.shape[2:], self.patch)

    def forward(self, x: Float[Tensor, "b c *size"]) -> Float[Tensor, "b n d"]:
        """Tokens of images ``[B, C, H, W]`` or clips ``[B, C, T, H, W]``.

        Raises:
            ValueError: see :meth:`grid_of`.
        """
        self.grid_of(x)
        return self.proj(x).flatten(2).transpose(1, 2)
