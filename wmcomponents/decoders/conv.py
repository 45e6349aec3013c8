"""Image decoder."""

from collections.abc import Sequence

import torch
from einops import rearrange
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.codecs import Likelihood, SigmoidSquaredError
from wmcomponents.component import Component
from wmcomponents.nn import BlockLinear, ChannelNormAct, Dense, Doubling, Norm, UpsampleConv, linear, make_norm
from wmcomponents.nn.layers.activation import Activation, make_activation


class ConvDecoder(Component):
    """DreamerV3's decoder of images; its output is before the sigmoid.

    The recurrent part enters the smallest feature map through a block-diagonal layer, the stochastic part through two
    dense ones; their sum is normalised and doubled in resolution once for each entry of ``mults``: by nearest
    upsampling and a convolution (``UpsampleConv``, the default) or, as the encoder halves with ``StrideStage``, by a
    transposed convolution (``StridedDoubling``).

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "deter" | [*B, deter] | float | read |
        | "stoch" | [*B, *stoch_shape] | float | read |
        | ("raw", "pixels") | [*B, H, W, C] | float, before the sigmoid | written |

    Args:
        deter: size of the recurrent part.
        stoch_shape: shape of the stochastic part.
        image_shape: (H, W, C); the sides must be divisible by 2 to the number of stages.
        depth: channels are ``depth * mult``.
        mults: one factor a stage, from the largest map to the smallest as in the encoder.
        kernel: kernel size; ``UpsampleConv`` takes odd ones.
        stage: what doubles the resolution.
        units: half the width of the stochastic part's hidden layer.
        blocks: blocks of the recurrent part's layer; they divide ``deter`` and the channels of the smallest map.
        norm: normalisation.
        act: activation.
        outscale: factor on the initial weight of the last convolution.
        likelihood: how the raw image is read and judged; by default as the squared error of its sigmoid.
        in_keys: recurrent and stochastic part.
        out_keys: the raw image.

    Raises:
        ValueError: if the sides cannot be halved that often, the stage refuses the kernel, or ``blocks`` does not
            divide.

    Reference: Hafner et al., Mastering Diverse Domains through World Models (DreamerV3), Table 3.

    Example:
        >>> import torch
        >>> decoder = ConvDecoder(16, (4, 3), (64, 64, 3), depth=2, units=8)
        >>> decoder(deter=torch.zeros(5, 16), stoch=torch.zeros(5, 4, 3)).shape
        torch.Size([5, 64, 64, 3])
    """

    def __init__(
        self,
        deter: int,
        stoch_shape: Sequence[int],
        image_shape: Sequence[int],
        depth: int = 64,
        mults: Sequence[int] = (2, 3, 4, 4),
        kernel: int = 5,
        stage: type[Doubling] = UpsampleConv,
        units: int = 1024,
        blocks: int = 8,
        norm: Norm = "rms",
        act: Activation = "silu",
        outscale: float = 1.0,
        likelihood: Likelihood | None = None,
        in_keys: Sequence[NestedKey] = ("deter", "stoch"),
        out_keys: Sequence[NestedKey] = (("raw", "pixels"),),
    ) -> None:
        super().__init__(in_keys, out_keys)
        height, width, channels = image_shape
        factor = 2 ** len(mults)
        if height % factor or width % factor:
            raise ValueError(
                f"{len(mults)} stages double the image {len(mults)} times, so height and width must be divisible by "
                f"{factor}; got {height}x{width}. Resize the image (64x64, 96x96) or pass fewer mults."
            )
        sizes = [depth * mult for mult in reversed(mults)]
        if deter % blocks or sizes[0] % blocks:
            raise ValueError(
                f"blocks (={blocks}) must divide deter (={deter}) and the channels of the smallest map (={sizes[0]})."
            )
        self.likelihood = SigmoidSquaredError() if likelihood is None else likelihood
        self.stoch_dims, self.blocks = len(stoch_shape), blocks
        self.map_shape = (height // factor, width // factor, sizes[0])
        map_size = torch.Size(self.map_shape).numel()
        self.deter_in = BlockLinear(deter, map_size, blocks)
        self.stoch_hidden = Dense(torch.Size(stoch_shape).numel(), 2 * units, norm, act)
        self.stoch_in = linear(2 * units, map_size)
        self.map_norm = make_norm(norm, sizes[0])
        self.act = make_activation(act)
        self.stages = nn.ModuleList(stage(i, o, kernel) for i, o in zip(sizes[:-1], sizes[1:], strict=True))
        self.posts = nn.ModuleList(ChannelNormAct(size, norm, act) for size in sizes[1:])
        self.out = stage(sizes[-1], channels, kernel, outscale)

    def compute(self, deter: Tensor, stoch: Tensor) -> Tensor:
        """``[*B, deter]`` and ``[*B, *stoch_shape]`` to ``[*B, H, W, C]``, before the sigmoid."""
        lead = deter.shape[:-1]
        height, width, _ = self.map_shape
        from_deter = rearrange(self.deter_in(deter), "... (g h w c) -> ... h w (g c)", g=self.blocks, h=height, w=width)
        from_stoch = self.stoch_in(self.stoch_hidden(stoch.flatten(-self.stoch_dims)))
        x = from_deter + from_stoch.unflatten(-1, self.map_shape)
        x = self.act(self.map_norm(x)).reshape(-1, *self.map_shape).permute(0, 3, 1, 2)
        for stage, post in zip(self.stages, self.posts, strict=True):
            x = post(stage(x))
        x = self.out(x).permute(0, 2, 3, 1)
        return x.reshape(*lead, *x.shape[1:])
