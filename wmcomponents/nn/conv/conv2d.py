"""Convolutions with a truncated-normal initialisation, and what follows them; channels last in memory."""

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
