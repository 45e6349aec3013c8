"""Stages of image decoders, which double the resolution."""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from wmcomponents.nn.conv.conv2d import ChannelNormAct, conv2d, transposed_conv2d
from wmcomponents.nn.layers.activation import Activation
from wmcomponents.nn.layers.norm import Norm


class TransposedStage(nn.Module):
    """Grow the resolution: transposed convolution with stride 2, normalisation, activation.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: (height, width).
        padding: (height, width), cut off at both ends.
        norm: kind of normalisation.
        act: activation.
        bias: whether the convolution has a bias.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: tuple[int, int],
        padding: tuple[int, int] = (0, 0),
        norm: Norm = "none",
        act: Activation = "relu",
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.conv = transposed_conv2d(in_channels, out_channels, kernel, padding, bias=bias)
        self.post = ChannelNormAct(out_channels, norm, act)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        """Grow the resolution."""
        return self.post(self.conv(x))


class Doubling(nn.Module, ABC):
    """What doubles the resolution in an image decoder: a convolution without normalisation and activation.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: kernel size.
        outscale: factor on the initial weight.
    """

    @abstractmethod
    def __init__(self, in_channels: int, out_channels: int, kernel: int, outscale: float = 1.0) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        """Double the resolution."""


class StridedDoubling(Doubling):
    """A transposed convolution of stride 2, padded as "SAME" in XLA (DreamerV3, the official option ``strided``).

    An odd kernel reaches one pixel further before than after.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: kernel size, at least 2.
        outscale: factor on the initial weight.

    Raises:
        ValueError: if the kernel is too small.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 5, outscale: float = 1.0) -> None:
        super().__init__(in_channels, out_channels, kernel, outscale)
        if kernel < 2:
            raise ValueError(f"kernel must be at least 2, or every second pixel would see nothing; got {kernel}.")
        padding = (kernel - 2) // 2
        self.conv = transposed_conv2d(in_channels, out_channels, (kernel, kernel), (padding, padding), outscale)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        """Double the resolution."""
        return self.conv(x)[..., : 2 * x.shape[-2], : 2 * x.shape[-1]]


class UpsampleConv(Doubling):
    """Double the resolution: nearest upsampling, then a convolution (stride 1, same padding).

    Computed without the upsampled image. Of the taps of one output pixel several fall on the same input pixel; their
    weights are added up first, for each of the four positions of an output pixel within its input pixel, which leaves
    one smaller convolution with four times the channels (9 products instead of 25 for a kernel of 5).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: odd kernel size.
        outscale: factor on the initial weight.

    Raises:
        ValueError: if the kernel is even.
    """

    fold: Tensor

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 5, outscale: float = 1.0) -> None:
        if kernel % 2 == 0:
            raise ValueError(f"kernel must be odd; got {kernel}.")
        super().__init__(in_channels, out_channels, kernel, outscale)
        self.conv = conv2d(in_channels, out_channels, kernel, outscale, padding=kernel // 2)
        pad = kernel // 2
        self.reach = (pad + 1) // 2
        fold = torch.zeros(2, 2 * self.reach + 1, kernel)
        for position in range(2):
            for tap in range(kernel):
                fold[position, (position + tap - pad) // 2 + self.reach, tap] = 1.0
        self.register_buffer("fold", fold, persistent=False)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        """Double the resolution."""
        weight, bias = self.conv.weight, self.conv.bias
        assert bias is not None
        weight = torch.einsum("pmj,qnl,oijl->opqimn", self.fold, self.fold, weight).flatten(0, 2)
        weight = weight.contiguous(memory_format=torch.channels_last)
        return F.pixel_shuffle(F.conv2d(x, weight, bias.repeat_interleave(4), padding=self.reach), 2)
