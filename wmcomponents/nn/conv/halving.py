"""Stages of image encoders, which halve the resolution."""

from abc import ABC, abstractmethod

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from wmcomponents.nn.conv.conv2d import ChannelNormAct, conv2d
from wmcomponents.nn.layers.activation import Activation
from wmcomponents.nn.layers.norm import Norm


class Stage(nn.Module, ABC):
    """A stage of an image encoder: a convolution that halves the resolution, normalisation, activation.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: kernel size.
        norm: kind of normalisation.
        act: activation.
        bias: whether the convolution has a bias.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, norm: Norm, act: Activation, bias: bool, **options: int
    ) -> None:
        super().__init__()
        self.conv = conv2d(in_channels, out_channels, kernel, bias=bias, **options)
        self.post = ChannelNormAct(out_channels, norm, act)

    @staticmethod
    @abstractmethod
    def reduced(size: int, kernel: int, stages: int) -> int:
        """Height or width after some stages.

        Raises:
            ValueError: if ``size`` cannot pass that many stages.
        """


class PoolStage(Stage):
    """Halve the resolution: convolution (stride 1, same padding), 2x2 max-pool, normalisation, activation (DreamerV3).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: odd kernel size.
        norm: kind of normalisation.
        act: activation.
        bias: whether the convolution has a bias.

    Raises:
        ValueError: if the kernel is even.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 5,
        norm: Norm = "rms",
        act: Activation = "silu",
        bias: bool = True,
    ) -> None:
        if kernel % 2 == 0:
            raise ValueError(f"kernel must be odd; got {kernel}.")
        super().__init__(in_channels, out_channels, kernel, norm, act, bias, padding=kernel // 2)

    @staticmethod
    def reduced(size: int, kernel: int, stages: int) -> int:
        """A half a stage."""
        return halved(size, stages)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        """Halve the resolution."""
        return self.post(F.max_pool2d(self.conv(x), 2))


class StrideStage(Stage):
    """Halve the resolution: convolution with stride 2, normalisation, activation (DreamerV3, the preprint).

    The padding is that of "SAME" in XLA: for an even input and an odd kernel, one less before than after.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: kernel size.
        norm: kind of normalisation.
        act: activation.
        bias: whether the convolution has a bias.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 5,
        norm: Norm = "rms",
        act: Activation = "silu",
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, norm, act, bias, stride=2)
        self.padding = ((kernel - 2) // 2, (kernel - 1) // 2) * 2

    @staticmethod
    def reduced(size: int, kernel: int, stages: int) -> int:
        """A half a stage."""
        return halved(size, stages)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        """Halve the resolution."""
        return self.post(self.conv(F.pad(x, self.padding)))


class ValidStage(Stage):
    """A little less than half the resolution: convolution with stride 2 and no padding, normalisation, activation.

    Of PlaNet, Dreamer and DreamerV2, with a kernel of 4: from 64 pixels to 31, 14, 6 and 2.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: kernel size.
        norm: kind of normalisation.
        act: activation.
        bias: whether the convolution has a bias.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 4,
        norm: Norm = "none",
        act: Activation = "relu",
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, norm, act, bias, stride=2)

    @staticmethod
    def reduced(size: int, kernel: int, stages: int) -> int:
        """``(size - kernel) // 2 + 1`` a stage."""
        left = size
        for _ in range(stages):
            if left < kernel:
                raise ValueError(
                    f"{stages} convolutions of kernel {kernel} and stride 2 without padding need a larger image; got "
                    f"{size} pixels a side. Resize the image (64x64) or pass fewer mults."
                )
            left = (left - kernel) // 2 + 1
        return left

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        """Reduce the resolution."""
        return self.post(self.conv(x))


def halved(size: int, stages: int) -> int:
    """Height or width after so many exact halvings.

    Raises:
        ValueError: if it cannot be halved that often.
    """
    factor = 2**stages
    if size % factor:
        raise ValueError(
            f"{stages} stages halve the image {stages} times, so height and width must be divisible by {factor}; got "
            f"{size}. Resize the image (64x64, 96x96) or pass fewer mults."
        )
    return size // factor
