"""Image encoder."""

from collections.abc import Sequence

import torch
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.component import Component
from wmcomponents.nn import Norm, PoolStage, StrideStage
from wmcomponents.nn.activation import Activation


class ConvEncoder(Component):
    """DreamerV3's encoder of pictures: one stage for each entry of ``mults``, each halving the resolution.

    A stage is convolution, 2x2 max-pool, normalisation over channels, activation. The result is flattened as
    (height, width, channel).

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "pixels" | [*B, H, W, C] | uint8 | read |
        | "embed" | [*B, H/2^n * W/2^n * depth * mults[-1]] | float | written |

    Args:
        image_shape: (H, W, C); the sides must be divisible by 2 to the number of stages.
        depth: channels are ``depth * mult``.
        mults: one factor a stage.
        kernel: odd kernel size.
        strided: halve by a stride-2 convolution, as the paper describes it, instead of by max-pool, as its code does.
        norm: normalisation over channels.
        act: activation.
        in_keys: the picture.
        out_keys: the embedding.

    Raises:
        ValueError: if the sides cannot be halved that often, or the kernel is even.

    Reference: Hafner et al., Mastering Diverse Domains through World Models (DreamerV3), Table 3.

    Example:
        >>> import torch
        >>> ConvEncoder((64, 64, 3), depth=4)(pixels=torch.zeros(5, 64, 64, 3, dtype=torch.uint8)).shape
        torch.Size([5, 256])
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        depth: int = 64,
        mults: Sequence[int] = (2, 3, 4, 4),
        kernel: int = 5,
        strided: bool = False,
        norm: Norm = "rms",
        act: Activation = "silu",
        in_keys: Sequence[NestedKey] = ("pixels",),
        out_keys: Sequence[NestedKey] = ("embed",),
    ) -> None:
        super().__init__(in_keys, out_keys)
        height, width, channels = image_shape
        factor = 2 ** len(mults)
        if height % factor or width % factor:
            raise ValueError(
                f"{len(mults)} stages halve the image {len(mults)} times, so height and width must be divisible by "
                f"{factor}; got {height}x{width}. Resize the image (64x64, 96x96) or pass fewer mults."
            )
        if kernel % 2 == 0:
            raise ValueError(f"kernel must be odd; got {kernel}.")
        stage = StrideStage if strided else PoolStage
        sizes = [channels, *(depth * mult for mult in mults)]
        self.stages = nn.ModuleList(stage(i, o, kernel, norm, act) for i, o in zip(sizes[:-1], sizes[1:], strict=True))
        self.image_shape = (height, width, channels)
        self.out_features = (height // factor) * (width // factor) * sizes[-1]

    def compute(self, pixels: Tensor) -> Tensor:
        """``[*B, H, W, C]``, uint8, to ``[*B, out_features]``."""
        lead = pixels.shape[:-3]
        x = pixels.reshape(-1, *self.image_shape).permute(0, 3, 1, 2)  # a view: channels last in memory
        x = x.to(torch.float32) / 255.0 - 0.5
        for stage in self.stages:
            x = stage(x)
        return x.permute(0, 2, 3, 1).reshape(*lead, self.out_features)
