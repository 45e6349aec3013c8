"""Image encoder with batch normalisation."""

from collections.abc import Sequence

import torch
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.component import Component
from wmcomponents.nn.conv.halving import halved
from wmcomponents.nn.layers.batch_norm import BatchNorm2d
from wmcomponents.nn.memory_format import keep_channels_last


class BatchNormConvEncoder(Component):
    """Encoder of images: convolutions of kernel 4 and stride 2, each followed by batch normalisation and a ReLU.

    Pixels enter as ``x / 255``. The result is flattened as (channel, height, width).

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "pixels" | [*B, H, W, C] | uint8 | read |
        | "embed" | [*B, out_features] | float | written |

    Args:
        image_shape: (H, W, C); the sides must be divisible by 2 to the number of stages.
        depth: channels are ``depth * mult``.
        mults: one factor a stage.
        in_keys: the image.
        out_keys: the embedding.

    Raises:
        ValueError: if the image cannot be halved that often.

    Reference: Zhang et al., STORM (2023), table 5, and its code.

    Example:
        >>> import torch
        >>> BatchNormConvEncoder((64, 64, 3), depth=4)(pixels=torch.zeros(5, 64, 64, 3, dtype=torch.uint8)).shape
        torch.Size([5, 512])
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        depth: int = 32,
        mults: Sequence[int] = (1, 2, 4, 8),
        in_keys: Sequence[NestedKey] = ("pixels",),
        out_keys: Sequence[NestedKey] = ("embed",),
    ) -> None:
        super().__init__(in_keys, out_keys)
        height, width, channels = image_shape
        left = [halved(side, len(mults)) for side in (height, width)]
        sizes = [channels, *(depth * mult for mult in mults)]
        layers: list[nn.Module] = []
        for before, after in zip(sizes[:-1], sizes[1:], strict=True):
            layers += [nn.Conv2d(before, after, 4, 2, 1, bias=False), BatchNorm2d(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.image_shape = (height, width, channels)
        self.out_features = left[0] * left[1] * sizes[-1]
        keep_channels_last(self)

    def compute(self, pixels: Tensor) -> Tensor:
        """``[*B, H, W, C]``, from 0 to 255, to ``[*B, out_features]``."""
        x = pixels.reshape(-1, *self.image_shape).permute(0, 3, 1, 2).to(torch.float32) / 255.0
        return self.layers(x).reshape(*pixels.shape[:-3], self.out_features)
