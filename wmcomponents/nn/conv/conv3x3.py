"""The convolution that residual blocks are made of."""

from torch import nn


def conv3x3(in_channels: int, out_channels: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    """A 3x3 convolution with padding 1, which keeps height and width at a stride of 1.

    Args:
        in_channels: channels of the input ``[n, c, h, w]``.
        out_channels: channels of the output.
        stride: step of the kernel.
        bias: whether it adds a bias; none is needed before a batch normalisation.
    """
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=bias)
