"""Images out of features of patches: a probe, which learns what a world of features knows and changes nothing in it."""

from collections.abc import Sequence

from tensordict import NestedKey
from torch import Tensor, nn
from torch.nn.functional import relu

from wmcomponents.component import Component


class FeatureDecoder(Component):
    """Features of patches as an image of 16 times their grid, by convolutions and transposed ones (DINO-WM's decoder).

    Train it on detached features. Its numbers are those of the images that it is trained on; DINO-WM's are from -1 to
    1.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "embed" | [*B, N, D] | float | read |
        | ("raw", "pixels") | [*B, 16 h, 16 w, C] | float | written |

    Args:
        grid: h and w, rows and columns of patches.
        features: D.
        channels: inside.
        blocks: residual blocks of each half.
        block_channels: inside of these.
        image_channels: C.
        in_keys: the features.
        out_keys: the image.

    Raises:
        ValueError: on call, if there are not as many patches as places.

    Reference: Zhou et al., DINO-WM (2025), appendix, and its code: a VQ-VAE's decoder without codes.

    Example:
        >>> import torch
        >>> net = FeatureDecoder((3, 2), 8, channels=4, blocks=1, block_channels=2)
        >>> net(torch.zeros(5, 6, 8)).shape
        torch.Size([5, 48, 32, 3])
    """

    def __init__(
        self,
        grid: Sequence[int],
        features: int,
        *,
        channels: int = 384,
        blocks: int = 4,
        block_channels: int = 128,
        image_channels: int = 3,
        in_keys: Sequence[NestedKey] = ("embed",),
        out_keys: Sequence[NestedKey] = (("raw", "pixels"),),
    ) -> None:
        super().__init__(in_keys, out_keys)
        rows, columns = grid
        self.grid = (rows, columns)
        self.first = Quadrupling(features, features, channels, blocks, block_channels)
        self.second = Quadrupling(features, image_channels, channels, blocks, block_channels)

    def compute(self, embed: Tensor) -> Tensor:
        """``[*B, N, D]`` to ``[*B, 16 h, 16 w, C]``."""
        rows, columns = self.grid
        if embed.ndim < 2 or embed.shape[-2] != rows * columns:
            raise ValueError(f"a grid of {rows} x {columns} has as many patches; got {[*embed.shape]}.")
        lead = embed.shape[:-2]
        places = embed.reshape(-1, *embed.shape[-2:]).mT.unflatten(-1, self.grid)
        image = self.second(self.first(places)).movedim(1, -1)
        return image.reshape(*lead, *image.shape[1:])


class Quadrupling(nn.Module):
    """A convolution, residual blocks, and two transposed convolutions, each of which doubles height and width.

    Args:
        in_channels: of the input.
        out_channels: of the result.
        channels: inside.
        blocks: number of residual blocks.
        block_channels: inside of these.
    """

    def __init__(self, in_channels: int, out_channels: int, channels: int, blocks: int, block_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(),
                nn.Conv2d(channels, block_channels, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(block_channels, channels, 1),
            )
            for _ in range(blocks)
        )
        self.doubling = nn.ConvTranspose2d(channels, channels // 2, 4, 2, 1)
        self.out = nn.ConvTranspose2d(channels // 2, out_channels, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to ``[B, C', 4 H, 4 W]``."""
        x = self.conv(x)
        for block in self.blocks:
            x = x + block(x)
        return self.out(relu(self.doubling(relu(x))))
