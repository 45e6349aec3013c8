"""Residual convolutions of MuZero's family, channels first: torch's own convolutions and batch normalisation."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wmcomponents.nn.conv.conv3x3 import conv3x3
from wmcomponents.nn.layers.activation import Activation
from wmcomponents.nn.layers.batch_norm import BatchNorm2d
from wmcomponents.nn.layers.perceptron import Perceptron


class ResidualBlock(nn.Module):
    """``relu(shortcut(x) + bn(conv(relu(bn(conv(x))))))``.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output; those of the input if not given.
        stride: of the first convolution. Where it or the channels change, the shortcut is a bare 3x3 convolution,
            without normalisation (EfficientZero); else the identity.
    """

    def __init__(self, in_channels: int, out_channels: int | None = None, stride: int = 1) -> None:
        super().__init__()
        out_channels = in_channels if out_channels is None else out_channels
        self.conv1 = conv3x3(in_channels, out_channels, stride, bias=False)
        self.bn1 = BatchNorm2d(out_channels)
        self.conv2 = conv3x3(out_channels, out_channels, bias=False)
        self.bn2 = BatchNorm2d(out_channels)
        is_same = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if is_same else conv3x3(in_channels, out_channels, stride, bias=False)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        """Apply the block."""
        out = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (out + self.shortcut(x)).relu()


def residual_blocks(channels: int, count: int) -> nn.Sequential:
    """``count`` blocks in a row."""
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(count)))


class PlainStem(nn.Module):
    """One convolution at full resolution, batch normalisation, ReLU: how boards enter.

    Args:
        in_channels: channels of the stacked observation.
        channels: of the latent.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv = conv3x3(in_channels, channels, bias=False)
        self.bn = BatchNorm2d(channels)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h w"]:
        """Same resolution."""
        return self.bn(self.conv(x)).relu()

    def size(self, side: int) -> int:
        """Height or width of the output."""
        return side


def halved(side: int) -> int:
    """Height or width after kernel 3, stride 2, padding 1."""
    return (side + 1) // 2


class ResidualStem(nn.Module):
    """MuZero's downsampling of Atari by 16: two strided convolutions, two average pools, residual blocks between.

    As in muzero-general, neither normalisation nor activation follows the strided convolutions.

    Args:
        in_channels: channels of the stacked observation.
        channels: of the latent.

    Reference: Schrittwieser et al., MuZero (2020), appendix F.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, channels // 2, stride=2, bias=False)
        self.resblocks1 = residual_blocks(channels // 2, 2)
        self.conv2 = conv3x3(channels // 2, channels, stride=2, bias=False)
        self.resblocks2 = residual_blocks(channels, 3)
        self.resblocks3 = residual_blocks(channels, 3)
        self.pool = nn.AvgPool2d(3, stride=2, padding=1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        """A sixteenth of each side, rounded up."""
        x = self.resblocks2(self.conv2(self.resblocks1(self.conv1(x))))
        return self.pool(self.resblocks3(self.pool(x)))

    def size(self, side: int) -> int:
        """Height or width of the output."""
        return halved(halved(halved(halved(side))))


class PooledStem(nn.Module):
    """muzero-general's light downsampling: two convolutions with max pools, then an average pool to a sixteenth.

    Args:
        in_channels: channels of the stacked observation.
        channels: of the latent.
        shape: height and width of the observation, at least 48 each.
    """

    def __init__(self, in_channels: int, channels: int, shape: Sequence[int]) -> None:
        super().__init__()
        height, width = (self.size(side) for side in shape)
        middle = (in_channels + channels) // 2
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, middle, kernel_size=2 * height, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(middle, channels, kernel_size=5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
        )
        self.pool = nn.AdaptiveAvgPool2d((height, width))

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        """A sixteenth of each side, rounded up."""
        return self.pool(self.features(x))

    def size(self, side: int) -> int:
        """Height or width of the output."""
        return math.ceil(side / 16)


class NormalizedStem(nn.Module):
    """EfficientZero's downsampling by 16: normalised, lighter, the second halving inside a residual block.

    Args:
        in_channels: channels of the stacked observation.
        channels: of the latent.

    Reference: Ye et al., EfficientZero (2021), appendix A.1.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, channels // 2, stride=2, bias=False)
        self.bn1 = BatchNorm2d(channels // 2)
        self.resblocks1 = residual_blocks(channels // 2, 1)
        self.down = ResidualBlock(channels // 2, channels, stride=2)
        self.resblocks2 = residual_blocks(channels, 1)
        self.resblocks3 = residual_blocks(channels, 1)
        self.pool = nn.AvgPool2d(3, stride=2, padding=1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        """A sixteenth of each side, rounded up."""
        x = self.resblocks1(self.bn1(self.conv1(x)).relu())
        x = self.pool(self.resblocks2(self.down(x)))
        return self.pool(self.resblocks3(x))

    def size(self, side: int) -> int:
        """Height or width of the output."""
        return halved(halved(halved(halved(side))))


Stem = PlainStem | ResidualStem | PooledStem | NormalizedStem


class ReducedHead(nn.Module):
    """Planes to a vector: 1x1 convolution to few channels, flattened, then a perceptron.

    Args:
        shape: (C, H, W) of the planes.
        reduced: channels after the 1x1 convolution.
        hidden: widths of the perceptron's hidden layers.
        out_features: size of the output.
        norm: ``"batch"`` puts batch normalisation and ReLU behind the convolution and into the perceptron
            (EfficientZero); ``"none"`` leaves them out (muzero-general).
        act: of the perceptron.
        zero: whether the last layer begins at zero.
    """

    def __init__(
        self,
        shape: Sequence[int],
        reduced: int,
        hidden: Sequence[int],
        out_features: int,
        norm: str = "none",
        act: Activation = "elu",
        zero: bool = False,
    ) -> None:
        super().__init__()
        channels, height, width = shape
        self.reduce = ReducedPlanes(channels, reduced, norm == "batch")
        self.fc = Perceptron(reduced * height * width, hidden, out_features, norm, act, zero)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n o"]:
        """The vector."""
        return self.fc(self.reduce(x))


class ReducedPlanes(nn.Module):
    """A 1x1 convolution to few channels, normalised and rectified or not, flattened to ``[n, reduced * H * W]``.

    Args:
        channels: of the input.
        reduced: of the output.
        normalized: whether batch normalisation and ReLU follow.
    """

    def __init__(self, channels: int, reduced: int, normalized: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, reduced, 1)
        self.bn = BatchNorm2d(reduced) if normalized else None

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n f"]:
        """Reduced and flat."""
        x = self.conv(x)
        return (x if self.bn is None else self.bn(x).relu()).flatten(1)


def planes_of(action: Float[Tensor, "n p"], space: Sequence[int]) -> Float[Tensor, "n p h w"]:
    """Each number as a constant plane."""
    return action[..., None, None].expand(*action.shape, *space)


def joined(x: Float[Tensor, "n c h w"], action: Float[Tensor, "n p"]) -> Float[Tensor, "n c2 h w"]:
    """Planes with the numbers of an action as further planes."""
    return torch.cat([x, planes_of(action, x.shape[-2:])], 1)
