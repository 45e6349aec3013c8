"""Convolution stages of DreamerV3's image encoder and decoder, channels last in memory."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from wmcomponents.nn.activation import Activation, make_activation
from wmcomponents.nn.init import trunc_normal_init_
from wmcomponents.nn.norm import Norm, make_norm


def conv2d(in_channels: int, out_channels: int, kernel: int, outscale: float = 1.0, **options) -> nn.Conv2d:
    """A ``Conv2d`` with a truncated-normal weight (fan-in kernel * kernel * in_channels) and zero bias."""
    layer = nn.Conv2d(in_channels, out_channels, kernel, **options)
    trunc_normal_init_(layer.weight, kernel * kernel * in_channels, outscale)
    assert layer.bias is not None
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


class PoolStage(nn.Module):
    """Halve the resolution: convolution (stride 1, same padding), 2x2 max-pool, normalisation, activation.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: odd kernel size.
        norm: kind of normalisation.
        act: activation.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 5, norm: Norm = "rms", act: Activation = "silu"
    ) -> None:
        super().__init__()
        self.conv = conv2d(in_channels, out_channels, kernel, padding=kernel // 2)
        self.post = ChannelNormAct(out_channels, norm, act)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        """Halve the resolution."""
        return self.post(F.max_pool2d(self.conv(x), 2))


class StrideStage(nn.Module):
    """Halve the resolution: convolution with stride 2, normalisation, activation.

    The padding is that of "SAME" in XLA: for an even input and an odd kernel, one less before than after.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: odd kernel size.
        norm: kind of normalisation.
        act: activation.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 5, norm: Norm = "rms", act: Activation = "silu"
    ) -> None:
        super().__init__()
        self.conv = conv2d(in_channels, out_channels, kernel, stride=2)
        self.padding = ((kernel - 2) // 2, (kernel - 1) // 2) * 2
        self.post = ChannelNormAct(out_channels, norm, act)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        """Halve the resolution."""
        return self.post(self.conv(F.pad(x, self.padding)))


class UpsampleConv(nn.Module):
    """Double the resolution: nearest upsampling, then a convolution (stride 1, same padding).

    Computed without the upsampled picture. Of the taps of one output pixel several fall on the same input pixel; their
    weights are added up first, for each of the four positions of an output pixel within its input pixel, which leaves
    one smaller convolution with four times the channels (9 products instead of 25 for a kernel of 5).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: odd kernel size.
        outscale: factor on the initial weight.
    """

    fold: Tensor

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 5, outscale: float = 1.0) -> None:
        super().__init__()
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
