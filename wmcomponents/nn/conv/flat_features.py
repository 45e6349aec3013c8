"""Small convolutional networks from an image to flat features: those of IRIS's, Delta-IRIS's and DIAMOND's agents."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from wmcomponents.nn.conv.conv3x3 import conv3x3
from wmcomponents.nn.conv.frame_cnn import FrameEncoder
from wmcomponents.nn.conv.unet import groups_of


class PooledConvs(nn.Sequential):
    """IRIS's: convolutions, each followed by a maximum over 2x2 and a ReLU, of images in [-1, 1].

    Args:
        channels_in: channels of the image.
        channels: of each convolution.
        halves: whether the maximum follows the convolution; every one if not given.

    Reference: Micheli et al., Transformers are Sample-Efficient World Models (IRIS, 2023), appendix A.3.
    """

    def __init__(
        self,
        channels_in: int = 3,
        channels: Sequence[int] = (32, 32, 64, 64),
        halves: Sequence[bool] | None = None,
    ) -> None:
        parts: list[nn.Module] = []
        pools = [True] * len(channels) if halves is None else halves
        for before, after, does_halve in zip((channels_in, *channels), channels, pools, strict=False):
            parts += [conv3x3(before, after), nn.MaxPool2d(2) if does_halve else nn.Identity(), nn.ReLU()]
        super().__init__(*parts)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n f"]:
        """Flat features ``[N, F]`` of images in [0, 1]."""
        return super().forward(2.0 * x - 1.0).flatten(1)


class FrameFeatures(nn.Module):
    """Delta-IRIS's: the convolutions of its tokenizer, flattened place by place.

    Args:
        channels_in: channels of the image.
        features: of each place of the grid.
        channels: of the convolutions.
        mults: of ``channels``, one for each residual block.
        halves: whether the grid is halved behind the block.

    Reference: Micheli et al., Efficient World Models with Context-Aware Tokenization (Delta-IRIS, 2024).
    """

    def __init__(
        self,
        channels_in: int = 3,
        features: int = 16,
        channels: int = 32,
        mults: Sequence[int] = (1, 1, 1),
        halves: Sequence[bool] = (True, True, True),
    ) -> None:
        super().__init__()
        self.cnn = FrameEncoder(channels_in, features, channels, mults, halves)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n f"]:
        """Flat features ``[N, H' * W' * features]`` of images in [0, 1]."""
        return self.cnn(x).permute(0, 2, 3, 1).flatten(1)


class SmallResidual(nn.Module):
    """``skip(x) + conv(silu(norm(x)))``.

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output; a 1x1 convolution adapts the input to them.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups_of(channels_in), channels_in)
        self.conv = conv3x3(channels_in, channels_out)
        self.skip = nn.Identity() if channels_in == channels_out else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k h w"]:
        """Height and width stay."""
        return self.skip(x) + self.conv(nn.functional.silu(self.norm(x)))


class ResidualConvs(nn.Sequential):
    """DIAMOND's: a convolution, then small residual blocks, some followed by a maximum over 2x2, of images in [-1, 1].

    Args:
        channels_in: channels of the image.
        channels: of each block.
        halves: whether the maximum follows the block.

    Reference: Alonso et al., Diffusion for World Modeling (DIAMOND, 2024), appendix.
    """

    def __init__(
        self,
        channels_in: int = 3,
        channels: Sequence[int] = (32, 32, 64, 64),
        halves: Sequence[bool] = (True, True, True, True),
    ) -> None:
        parts: list[nn.Module] = [conv3x3(channels_in, channels[0])]
        for before, after, does_halve in zip((channels[0], *channels), channels, halves, strict=False):
            parts += [SmallResidual(before, after), nn.MaxPool2d(2) if does_halve else nn.Identity()]
        super().__init__(*parts)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n f"]:
        """Flat features ``[N, F]`` of images in [0, 1]."""
        return super().forward(2.0 * x - 1.0).flatten(1)
