"""Encoder of small boards."""

from collections.abc import Sequence

from tensordict import NestedKey
from torch import Tensor

from wmcomponents.component import Component
from wmcomponents.nn import ChannelNormAct, Dense, Norm, conv2d
from wmcomponents.nn.layers.activation import Activation


class BoardEncoder(Component):
    """Encoder of small boards of symbols (MinAtar's 10x10xC): one convolution at full resolution, one linear layer.

    Positions matter to the cell here, so nothing is pooled. The layout (one 3x3 convolution, one dense layer) is that
    of MinAtar's own networks; normalisation and activation are DreamerV3's.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "observation" | [*B, H, W, C] | bool, or float in [0, 1] | read |
        | "embed" | [*B, units] | float | written |

    Args:
        shape: (H, W, C).
        depth: channels of the convolution.
        units: size of the output.
        kernel: odd kernel size.
        norm: normalisation.
        act: activation.
        bias: whether the layers have biases.
        in_keys: the board.
        out_keys: the embedding.

    Raises:
        ValueError: if the kernel is even.

    Reference: Young and Tian, MinAtar (2019), section 3.

    Example:
        >>> import torch
        >>> BoardEncoder((10, 10, 4), units=64)(observation=torch.zeros(5, 10, 10, 4, dtype=torch.bool)).shape
        torch.Size([5, 64])
    """

    def __init__(
        self,
        shape: Sequence[int],
        depth: int = 16,
        units: int = 256,
        kernel: int = 3,
        norm: Norm = "rms",
        act: Activation = "silu",
        bias: bool = True,
        in_keys: Sequence[NestedKey] = ("observation",),
        out_keys: Sequence[NestedKey] = ("embed",),
    ) -> None:
        super().__init__(in_keys, out_keys)
        if kernel % 2 == 0:
            raise ValueError(f"kernel must be odd; got {kernel}.")
        height, width, channels = shape
        self.shape = (height, width, channels)
        self.conv = conv2d(channels, depth, kernel, padding=kernel // 2, bias=bias)
        self.post = ChannelNormAct(depth, norm, act)
        self.dense = Dense(height * width * depth, units, norm, act, bias)
        self.out_features = units

    def compute(self, board: Tensor) -> Tensor:
        """``[*B, H, W, C]`` to ``[*B, units]``."""
        lead = board.shape[:-3]
        x = board.reshape(-1, *self.shape).permute(0, 3, 1, 2).to(self.conv.weight.dtype)
        x = self.post(self.conv(x)).permute(0, 2, 3, 1)
        return self.dense(x.reshape(*lead, -1))
