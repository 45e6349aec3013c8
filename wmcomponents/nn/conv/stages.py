"""Convolution stages of image encoders and decoders, channels last in memory."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from wmcomponents.nn.layers.activation import Activation, make_activation
from wmcomponents.nn.layers.init import trunc_normal_init_
from wmcomponents.nn.layers.norm import Norm, make_norm


def conv2d(in_channels: int, out_channels: int, kernel: int, outscale: float = 1.0, **options) -> nn.Conv2d:
    """A ``Conv2d`` with a truncated-normal weight (fan-in kernel * kernel * in_channels) and zero bias, or none."""
    layer = nn.Conv2d(in_channels, out_channels, kernel, **options)
    trunc_normal_init_(layer.weight, kernel * kernel * in_channels, outscale)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class ChannelNormAct(nn.Module):
    """Normalisation over the channels of ``[n, c, h, w]``, then activation.

    Args:
        channels: c.
        norm: kind of normalisation.
        act: activation.
    """

    def __init__(self, channels: int, norm: Norm = "rms", act: Activation = "silu") -> None:
        super().__init__()
        self.norm = make_norm(norm, channels)
        self.act = make_activation(act)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Normalise and activate; the memory stays channels last."""
        return self.act(self.norm(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


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


def _halved(size: int, stages: int) -> int:
    factor = 2**stages
    if size % factor:
        raise ValueError(
            f"{stages} stages halve the image {stages} times, so height and width must be divisible by {factor}; got "
            f"{size}. Resize the image (64x64, 96x96) or pass fewer mults."
        )
    return size // factor


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
        return _halved(size, stages)

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
        return _halved(size, stages)

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


class DeconvPlan(NamedTuple):
    """How transposed convolutions of stride 2 grow a map to an image, along one side.

    Attributes:
        start: side of the map.
        kernels: of each stage, from the map to the image.
        padding: what each stage cuts off at both ends.
    """

    start: int
    kernels: tuple[int, ...]
    padding: int


def unpadded_deconv_plan(size: int, stages: int) -> DeconvPlan:
    """Kernels of 5 and 6 without padding (PlaNet, Dreamer, DreamerV2): 64 pixels from 1 by kernels 5, 5, 6, 6.

    Any size is reached exactly: a stage that ends on an even side has a kernel of 6, one on an odd side of 5.

    Raises:
        ValueError: if the size is too small for that many stages.
    """
    kernels, start = [], size
    for _ in range(stages):
        kernel = 6 if start % 2 == 0 else 5
        start = (start - kernel) // 2 + 1
        kernels.insert(0, kernel)
        if start < 1:
            raise ValueError(
                f"{stages} transposed convolutions without padding make more than {size} pixels a side of one. Resize "
                f"the image (64x64) or pass fewer mults."
            )
    return DeconvPlan(start, tuple(kernels), 0)


def padded_deconv_plan(size: int, stages: int) -> DeconvPlan:
    """Kernels of 4 that double exactly (DreamerV3, the preprint): 64 pixels from 4 by four of them.

    Raises:
        ValueError: if the size cannot be halved that often.
    """
    return DeconvPlan(_halved(size, stages), (4,) * stages, 1)


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


def transposed_conv2d(
    in_channels: int,
    out_channels: int,
    kernel: tuple[int, int],
    padding: tuple[int, int] = (0, 0),
    outscale: float = 1.0,
    bias: bool = True,
) -> nn.ConvTranspose2d:
    """A ``ConvTranspose2d`` of stride 2 with a truncated-normal weight and zero bias, or none."""
    layer = nn.ConvTranspose2d(in_channels, out_channels, kernel, stride=2, padding=padding, bias=bias)
    trunc_normal_init_(layer.weight, kernel[0] * kernel[1] * in_channels, outscale)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


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
