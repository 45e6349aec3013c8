"""The small convolutional encoder and decoder of Delta-IRIS: one residual block a level, group norm, no attention."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from wmcomponents.nn.conv.conv3x3 import conv3x3
from wmcomponents.nn.conv.unet import NearestUpsample
from wmcomponents.nn.conv.vqgan import GroupNormResidual, group_norm

EPS = 1e-5


class FrameEncoder(nn.Sequential):
    """Planes to a grid of features: a convolution, then residual blocks, some followed by a halving.

    Args:
        channels_in: channels of the input.
        features: channels of the output.
        channels: at the beginning; a multiple of 32.
        mults: of ``channels``, one for each residual block.
        halves: whether a 2x2 convolution of stride 2 follows the block.

    Raises:
        ValueError: if there are not as many ``mults`` as ``halves``.

    Reference: Micheli et al., Efficient World Models with Context-Aware Tokenization (Delta-IRIS, 2024), appendix A.

    Example:
        >>> import torch
        >>> FrameEncoder(3, 5, 32, (1, 2), (True, False))(torch.zeros(2, 3, 16, 16)).shape
        torch.Size([2, 5, 8, 8])
    """

    def __init__(
        self, channels_in: int, features: int, channels: int, mults: Sequence[int], halves: Sequence[bool]
    ) -> None:
        widths = _widths(channels, mults, halves)
        parts: list[nn.Module] = [conv3x3(channels_in, channels)]
        for before, after, does_halve in zip(widths, widths[1:], halves, strict=False):
            parts.append(GroupNormResidual(before, after, EPS))
            parts += [nn.Conv2d(after, after, 2, stride=2)] if does_halve else []
        super().__init__(*parts, group_norm(widths[-1], EPS), nn.SiLU(), conv3x3(widths[-1], features))

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n features h2 w2"]:
        """Height and width halve where ``halves`` says so."""
        return super().forward(x)


class FrameDecoder(nn.Sequential):
    """A grid of features to an image: the mirror of :class:`FrameEncoder`, which doubles before a block.

    Args:
        features: channels of the input.
        channels_out: channels of the output.
        channels: at the end; a multiple of 32.
        mults: as the encoder's, the largest resolution first.
        halves: as the encoder's; here the block's level begins with a doubling.

    Raises:
        ValueError: if there are not as many ``mults`` as ``halves``.

    Reference: as the encoder.
    """

    def __init__(
        self, features: int, channels_out: int, channels: int, mults: Sequence[int], halves: Sequence[bool]
    ) -> None:
        widths = _widths(channels, mults, halves)
        parts: list[nn.Module] = [conv3x3(features, widths[-1])]
        for number in reversed(range(len(mults))):
            width = widths[number + 1]
            parts += [NearestUpsample(width)] if halves[number] else []
            parts.append(GroupNormResidual(width, widths[number], EPS))
        super().__init__(*parts, group_norm(widths[0], EPS), nn.SiLU(), conv3x3(widths[0], channels_out))

    def forward(self, z: Float[Tensor, "n features h w"]) -> Float[Tensor, "n c h2 w2"]:
        """Height and width double where the encoder halves."""
        return super().forward(z)


def _widths(channels: int, mults: Sequence[int], halves: Sequence[bool]) -> list[int]:
    if len(mults) != len(halves) or not mults:
        raise ValueError(f"mults and halves have one entry for each residual block; got {mults} and {halves}.")
    return [channels, *(channels * mult for mult in mults)]


def channels_first(pixels: UInt8[Tensor, "n h w c"]) -> Float[Tensor, "n c h w"]:
    """Bytes as numbers in [0, 1], channels first; laid out so in memory, since convolutions differ in last digits."""
    image = pixels.permute(0, 3, 1, 2)
    return image.to(torch.float32, memory_format=torch.contiguous_format).div(255.0)
