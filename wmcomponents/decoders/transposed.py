"""Image decoder of transposed convolutions."""

from collections.abc import Callable, Sequence

import torch
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.codecs import Likelihood, UnitNormal
from wmcomponents.component import Component
from wmcomponents.nn import DeconvPlan, Norm, TransposedStage, linear, transposed_conv2d, unpadded_deconv_plan
from wmcomponents.nn.layers.activation import Activation


class TransposedConvDecoder(Component):
    """Decoder of images by transposed convolutions: PlaNet, Dreamer, DreamerV2, and DreamerV3 in its preprint.

    One linear layer on (stoch, deter), stochastic part FIRST, gives the smallest map, without activation; each
    transposed convolution about doubles it. The last one has neither normalisation nor activation.

    How the map grows is a part: ``unpadded_deconv_plan`` (the default) reaches 64 pixels from a single one by kernels
    of 5, 5, 6 and 6; ``padded_deconv_plan`` doubles four pixels by kernels of 4.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "deter" | [*B, deter] | float | read |
        | "stoch" | [*B, *stoch_shape] | float | read |
        | ("raw", "pixels") | [*B, H, W, C] | float; its mean is that of :attr:`likelihood` | written |

    Args:
        deter: size of the recurrent part.
        stoch_shape: shape of the stochastic part.
        image_shape: (H, W, C).
        depth: channels are ``depth * mult``.
        mults: one factor a stage, from the largest map to the smallest as in the encoder.
        deconv_plan: from ``(side, stages)`` to the kernels and the side of the first map, such as
            ``unpadded_deconv_plan``.
        norm: normalisation over channels.
        act: activation.
        bias: whether the convolutions before a normalisation have biases.
        outscale: factor on the initial weight of the last convolution.
        likelihood: how the raw image is read and judged; by default a unit normal around ``x / 255 - 0.5``.
        in_keys: recurrent and stochastic part.
        out_keys: the raw image.

    Raises:
        ValueError: if the map cannot grow to such an image.

    Reference: Hafner et al., Learning Latent Dynamics for Planning from Pixels (PlaNet, 2019), appendix A; after Ha and
    Schmidhuber, World Models (2018), appendix A.1.

    Example:
        >>> import torch
        >>> decoder = TransposedConvDecoder(16, (4, 3), (64, 64, 3), depth=2)
        >>> decoder(deter=torch.zeros(5, 16), stoch=torch.zeros(5, 4, 3)).shape
        torch.Size([5, 64, 64, 3])
    """

    def __init__(
        self,
        deter: int,
        stoch_shape: Sequence[int],
        image_shape: Sequence[int],
        depth: int = 32,
        mults: Sequence[int] = (1, 2, 4, 8),
        deconv_plan: Callable[[int, int], DeconvPlan] = unpadded_deconv_plan,
        norm: Norm = "none",
        act: Activation = "relu",
        bias: bool = True,
        outscale: float = 1.0,
        likelihood: Likelihood | None = None,
        in_keys: Sequence[NestedKey] = ("deter", "stoch"),
        out_keys: Sequence[NestedKey] = (("raw", "pixels"),),
    ) -> None:
        super().__init__(in_keys, out_keys)
        height, width, channels = image_shape
        rows, columns = deconv_plan(height, len(mults)), deconv_plan(width, len(mults))
        # Without padding a stage leaves a 2x2 neighbourhood to one pixel, whose channels hold all four.
        first = depth * mults[-1] * (1 if rows.padding else 4)
        sizes = [first, *(depth * mult for mult in reversed(mults[:-1])), channels]
        kernels = list(zip(rows.kernels, columns.kernels, strict=True))
        padding = (rows.padding, columns.padding)
        self.likelihood = UnitNormal(offset=0.5) if likelihood is None else likelihood
        self.stoch_dims = len(stoch_shape)
        self.map_shape = (rows.start, columns.start, first)
        features = deter + torch.Size(stoch_shape).numel()
        self.map_in: nn.Module = linear(features, torch.Size(self.map_shape).numel())
        self.stages = nn.ModuleList(
            TransposedStage(i, o, kernel, padding, norm, act, bias)
            for i, o, kernel in zip(sizes[:-2], sizes[1:-1], kernels[:-1], strict=True)
        )
        self.out = transposed_conv2d(sizes[-2], channels, kernels[-1], padding, outscale)

    def compute(self, deter: Tensor, stoch: Tensor) -> Tensor:
        """``[*B, deter]`` and ``[*B, *stoch_shape]`` to ``[*B, H, W, C]``."""
        lead = deter.shape[:-1]
        x = self.map_in(torch.cat([stoch.flatten(-self.stoch_dims), deter], -1))
        x = x.reshape(-1, *self.map_shape).permute(0, 3, 1, 2)
        for stage in self.stages:
            x = stage(x)
        x = self.out(x).permute(0, 2, 3, 1)
        return x.reshape(*lead, *x.shape[1:])
