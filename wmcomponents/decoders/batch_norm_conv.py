"""Image decoder with batch normalisation."""

from collections.abc import Sequence

import torch
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.codecs import Likelihood, SquaredError
from wmcomponents.component import Component
from wmcomponents.nn.conv.halving import halved
from wmcomponents.nn.layers.batch_norm import BatchNorm2d
from wmcomponents.nn.memory_format import keep_channels_last


class BatchNormConvDecoder(Component):
    """Decoder of images: the mirror of ``BatchNormConvEncoder``, by transposed convolutions of kernel 4 and stride 2.

    One linear layer on (stoch, deter), stochastic part FIRST, gives the smallest map; batch normalisation and a ReLU
    follow it and every transposed convolution but the last. Raw images are the images themselves, from 0 to 1.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "deter" | [*B, deter] | float | read |
        | "stoch" | [*B, *stoch_shape] | float | read |
        | ("raw", "pixels") | [*B, H, W, C] | float | written |

    Args:
        deter: size of the recurrent part.
        stoch_shape: shape of the stochastic part.
        image_shape: (H, W, C); the sides must be divisible by 2 to the number of stages.
        depth: channels are ``depth * mult``.
        mults: one factor a stage, from the largest map to the smallest as in the encoder.
        likelihood: how the raw image is read and judged; by default as the squared error, without a factor 1/2.
        in_keys: recurrent and stochastic part.
        out_keys: the raw image.

    Raises:
        ValueError: if the image cannot be halved that often.

    Reference: Zhang et al., STORM (2023), table 6, and its code.

    Example:
        >>> import torch
        >>> decoder = BatchNormConvDecoder(12, (0,), (64, 64, 3), depth=2)
        >>> decoder(deter=torch.zeros(5, 12), stoch=torch.zeros(5, 0)).shape
        torch.Size([5, 64, 64, 3])
    """

    def __init__(
        self,
        deter: int,
        stoch_shape: Sequence[int],
        image_shape: Sequence[int],
        depth: int = 32,
        mults: Sequence[int] = (1, 2, 4, 8),
        likelihood: Likelihood | None = None,
        in_keys: Sequence[NestedKey] = ("deter", "stoch"),
        out_keys: Sequence[NestedKey] = (("raw", "pixels"),),
    ) -> None:
        super().__init__(in_keys, out_keys)
        height, width, channels = image_shape
        sizes = [depth * mult for mult in reversed(mults)]
        self.likelihood = SquaredError() if likelihood is None else likelihood
        self.stoch_dims = len(stoch_shape)
        self.map_shape = (sizes[0], halved(height, len(mults)), halved(width, len(mults)))
        features = deter + torch.Size(stoch_shape).numel()
        self.map_in = nn.Linear(features, torch.Size(self.map_shape).numel(), bias=False)
        layers: list[nn.Module] = [BatchNorm2d(sizes[0]), nn.ReLU()]
        for before, after in zip(sizes[:-1], sizes[1:], strict=True):
            layers += [nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False), BatchNorm2d(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(sizes[-1], channels, 4, 2, 1))
        keep_channels_last(self)

    def compute(self, deter: Tensor, stoch: Tensor) -> Tensor:
        """``[*B, deter]`` and ``[*B, *stoch_shape]`` to ``[*B, H, W, C]``."""
        x = self.map_in(torch.cat([stoch.flatten(-self.stoch_dims), deter], -1))
        x = self.layers(x.reshape(-1, *self.map_shape)).permute(0, 2, 3, 1)
        return x.reshape(*deter.shape[:-1], *x.shape[1:])
