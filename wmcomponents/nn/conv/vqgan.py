"""The convolutional encoder and decoder of VQGAN: residual blocks, attention at small resolutions, group norm."""

from collections.abc import Callable, Collection, Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from wmcomponents.nn.conv.conv3x3 import conv3x3
from wmcomponents.nn.conv.unet import NearestUpsample
from wmcomponents.nn.layers.activation import silu

GROUPS, EPS = 32, 1e-6


def group_norm(channels: int, eps: float = EPS) -> nn.GroupNorm:
    """Group norm over 32 groups.

    Args:
        channels: of the input.
        eps: added to the variance; VQGAN's is 1e-6.

    Raises:
        ValueError: if the channels cannot be shared by 32 groups.
    """
    if channels % GROUPS:
        raise ValueError(f"group norm shares the channels among {GROUPS} groups; got {channels}: use a multiple.")
    return nn.GroupNorm(GROUPS, channels, eps=eps)


class GroupNormResidual(nn.Module):
    """Two 3x3 convolutions, each behind group norm and swish, added to the input.

    Args:
        channels_in: of the input.
        channels_out: of the output; a 1x1 convolution carries the input over where they differ.
        eps: of group norm.
    """

    def __init__(self, channels_in: int, channels_out: int, eps: float = EPS) -> None:
        super().__init__()
        self.norm1 = group_norm(channels_in, eps)
        self.conv1 = conv3x3(channels_in, channels_out)
        self.norm2 = group_norm(channels_out, eps)
        self.conv2 = conv3x3(channels_out, channels_out)
        self.shortcut = nn.Identity() if channels_in == channels_out else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h w"]:
        """The same height and width."""
        y = self.conv1(silu(self.norm1(x)))
        y = self.conv2(silu(self.norm2(y)))
        y += self.shortcut(x)
        return y


class PixelAttention(nn.Module):
    """Attention with one head among all pixels, behind group norm and added to the input.

    Args:
        channels: of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.q, self.k, self.v, self.proj = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """The same shape."""
        y = self.norm(x)
        q, k, v = (part(y).flatten(2).transpose(1, 2) for part in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj(y.transpose(1, 2).unflatten(2, x.shape[2:]))


class Halving(nn.Module):
    """A 3x3 convolution of stride 2, with a zero row and column at the far sides alone.

    Args:
        channels: of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
        """Half the height and width."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Level(nn.Module):
    """The blocks at one resolution.

    Args:
        channels_in: of the input.
        channels_out: of the output.
        blocks: residual blocks.
        attends: whether attention follows each.
    """

    def __init__(self, channels_in: int, channels_out: int, blocks: int, attends: bool) -> None:
        super().__init__()
        widths = [channels_in] + [channels_out] * blocks
        self.block = nn.ModuleList(GroupNormResidual(a, b) for a, b in zip(widths, widths[1:], strict=False))
        self.attention = nn.ModuleList(PixelAttention(channels_out) for _ in range(blocks if attends else 0))

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h w"]:
        """The same height and width."""
        for number, block in enumerate(self.block):
            x = block(x)
            if len(self.attention):
                x = self.attention[number](x)
        return x


class Middle(nn.Sequential):
    """Residual block, attention, residual block, at the lowest resolution.

    Args:
        channels: of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(
            GroupNormResidual(channels, channels), PixelAttention(channels), GroupNormResidual(channels, channels)
        )


class PlainMiddle(nn.Sequential):
    """Two residual blocks at the lowest resolution, without attention, as aMUSEd has them.

    Args:
        channels: of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(GroupNormResidual(channels, channels), GroupNormResidual(channels, channels))


class VQGANEncoder(nn.Module):
    """Images to a grid of vectors, each level of half the height and width of the one before.

    Args:
        channels: at the first level.
        mults: of ``channels``, one for each level.
        blocks: residual blocks at a level.
        attention: which levels have attention, by number, 0 being the first.
        features: channels of the output.
        channels_in: of the images.
        middle: makes what is done at the lowest resolution from its channels.

    Reference: Esser et al., Taming Transformers for High-Resolution Image Synthesis (2021), appendix; IRIS (2023).
    """

    def __init__(
        self,
        channels: int,
        mults: Sequence[int],
        blocks: int,
        attention: Collection[int],
        features: int,
        *,
        channels_in: int = 3,
        middle: Callable[[int], nn.Module] = Middle,
    ) -> None:
        super().__init__()
        widths = [channels, *(channels * mult for mult in mults)]
        self.conv_in = conv3x3(channels_in, channels)
        self.levels = nn.ModuleList(Level(widths[i], widths[i + 1], blocks, i in attention) for i in range(len(mults)))
        self.halvings = nn.ModuleList(Halving(width) for width in widths[1:-1])
        self.middle = middle(widths[-1])
        self.norm = group_norm(widths[-1])
        self.conv_out = conv3x3(widths[-1], features)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n features h2 w2"]:
        """Height and width halve between levels.

        Args:
            x: images; sides that halve without remainder.
        """
        x = self.conv_in(x)
        for number, level in enumerate(self.levels):
            x = level(self.halvings[number - 1](x) if number else x)
        return self.conv_out(silu(self.norm(self.middle(x))))


class VQGANDecoder(nn.Module):
    """A grid of vectors to images: the mirror of :class:`VQGANEncoder`, with one more residual block at each level.

    Args:
        channels: at the last, largest level.
        mults: of ``channels``, one for each level, the largest first, as the encoder's.
        blocks: residual blocks at a level of the ENCODER; here there is one more.
        attention: which levels have attention, by number, 0 being the largest.
        features: channels of the input.
        channels_out: of the images.
        middle: makes what is done at the lowest resolution from its channels.

    Reference: as the encoder.
    """

    def __init__(
        self,
        channels: int,
        mults: Sequence[int],
        blocks: int,
        attention: Collection[int],
        features: int,
        *,
        channels_out: int = 3,
        middle: Callable[[int], nn.Module] = Middle,
    ) -> None:
        super().__init__()
        widths = [channels * mult for mult in mults]
        above = [*widths[1:], widths[-1]]
        self.conv_in = conv3x3(features, widths[-1])
        self.middle = middle(widths[-1])
        # By size, the largest first; the forward goes from the last to the first.
        self.levels = nn.ModuleList(Level(above[i], widths[i], blocks + 1, i in attention) for i in range(len(widths)))
        self.doublings = nn.ModuleList(NearestUpsample(width) for width in widths[1:])
        self.norm = group_norm(widths[0])
        self.conv_out = conv3x3(widths[0], channels_out)

    def forward(self, z: Float[Tensor, "n features h w"]) -> Float[Tensor, "n c h2 w2"]:
        """Height and width double between levels."""
        x = self.middle(self.conv_in(z))
        for number in reversed(range(len(self.levels))):
            x = self.levels[number](x)
            x = self.doublings[number - 1](x) if number else x
        return self.conv_out(silu(self.norm(x)))
