"""Decoder of small boards."""

from collections.abc import Sequence

import torch
from tensordict import NestedKey
from torch import Tensor

from wmcomponents.component import Component
from wmcomponents.nn import Dense, Norm, conv2d, linear, make_norm
from wmcomponents.nn.layers.activation import Activation, make_activation


class BoardDecoder(Component):
    """Decoder of small boards of symbols (MinAtar's 10x10xC): one logit for each cell and plane.

    The mirror of ``BoardEncoder``: a dense layer, a linear map to the board with ``depth`` channels, one convolution.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "deter" | [*B, deter] | float | read |
        | "stoch" | [*B, *stoch_shape] | float | read |
        | ("raw", "observation") | [*B, H, W, C] | float, Bernoulli logits | written |

    Args:
        deter: size of the recurrent part.
        stoch_shape: shape of the stochastic part.
        shape: (H, W, C) of the board.
        depth: channels before the convolution.
        units: width of the dense layer.
        kernel: odd kernel size.
        norm: normalisation.
        act: activation.
        bias: whether the dense layer has a bias.
        in_keys: recurrent and stochastic part.
        out_keys: the logits.

    Raises:
        ValueError: if the kernel is even.

    Example:
        >>> import torch
        >>> decoder = BoardDecoder(16, (4, 3), (10, 10, 4), units=8)
        >>> decoder(deter=torch.zeros(5, 16), stoch=torch.zeros(5, 4, 3)).shape
        torch.Size([5, 10, 10, 4])
    """

    def __init__(
        self,
        deter: int,
        stoch_shape: Sequence[int],
        shape: Sequence[int],
        depth: int = 16,
        units: int = 256,
        kernel: int = 3,
        norm: Norm = "rms",
        act: Activation = "silu",
        bias: bool = True,
        in_keys: Sequence[NestedKey] = ("deter", "stoch"),
        out_keys: Sequence[NestedKey] = (("raw", "observation"),),
    ) -> None:
        super().__init__(in_keys, out_keys)
        if kernel % 2 == 0:
            raise ValueError(f"kernel must be odd; got {kernel}.")
        height, width, channels = shape
        self.stoch_dims, self.map_shape = len(stoch_shape), (height, width, depth)
        self.dense = Dense(deter + torch.Size(stoch_shape).numel(), units, norm, act, bias)
        self.map_in = linear(units, height * width * depth)
        self.norm = make_norm(norm, depth)
        self.act = make_activation(act)
        self.out = conv2d(depth, channels, kernel, padding=kernel // 2)

    def compute(self, deter: Tensor, stoch: Tensor) -> Tensor:
        """``[*B, deter]`` and ``[*B, *stoch_shape]`` to logits ``[*B, H, W, C]``."""
        lead = deter.shape[:-1]
        x = self.map_in(self.dense(torch.cat([stoch.flatten(-self.stoch_dims), deter], -1)))
        x = self.act(self.norm(x.reshape(-1, *self.map_shape)))
        x = self.out(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x.reshape(*lead, *x.shape[1:])
