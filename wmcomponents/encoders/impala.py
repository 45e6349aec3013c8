"""IMPALA's residual image encoder."""

import math
from collections.abc import Sequence

from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.component import Component
from wmcomponents.nn import NormalizePixels


def impala_map(image_shape: Sequence[int], channels: Sequence[int]) -> tuple[int, int, int]:
    """Shape (C, H, W) of the map that an :class:`ImpalaEncoder` makes, before it is flat.

    Args:
        image_shape: (H, W, C) of images.
        channels: of each stack.

    Example:
        >>> impala_map((64, 64, 3), (16, 32, 32))
        (32, 8, 8)
    """
    height, width = image_shape[:2]
    for _ in channels:
        height, width = (height + 1) // 2, (width + 1) // 2
    return channels[-1], height, width


class ImpalaBlock(nn.Module):
    """``x + conv(relu(conv(relu(x))))``, both convolutions 3x3.

    Args:
        channels: of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` to the same."""
        return x + self.conv2(self.conv1(x.relu()).relu())


class ImpalaEncoder(Component):
    """Encoder of images: stacks of a convolution, a pool that halves the resolution and residual blocks; flattened.

    Pixels enter as ``x / 255``, or as ``pixels`` says.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "pixels" | [*B, H, W, C] | uint8 | read |
        | "embed" | [*B, out_features] | float | written |

    Args:
        image_shape: (H, W, C).
        channels: of each stack.
        blocks: residual blocks of a stack.
        in_keys: the image.
        out_keys: the embedding.
        pixels: from images, 0 to 255 with channels last, to channels first; ``NormalizePixels`` by means and deviations
            lets what is small and dark be seen beside what is large and bright.

    Reference: Espeholt et al., IMPALA (2018), figure 3, the large architecture without its last layer.

    Example:
        >>> import torch
        >>> ImpalaEncoder((64, 64, 3))(pixels=torch.zeros(5, 64, 64, 3, dtype=torch.uint8)).shape
        torch.Size([5, 2048])
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        channels: Sequence[int] = (16, 32, 32),
        blocks: int = 2,
        in_keys: Sequence[NestedKey] = ("pixels",),
        out_keys: Sequence[NestedKey] = ("embed",),
        pixels: NormalizePixels | None = None,
    ) -> None:
        super().__init__(in_keys, out_keys)
        height, width, image_channels = image_shape
        self.image_shape = (height, width, image_channels)
        self.pixels = pixels
        inputs = (image_channels, *channels[:-1])
        self.stacks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(i, o, 3, padding=1),
                nn.MaxPool2d(3, stride=2, padding=1),
                *(ImpalaBlock(o) for _ in range(blocks)),
            )
            for i, o in zip(inputs, channels, strict=True)
        )
        self.map_shape = impala_map(image_shape, channels)
        self.out_features = math.prod(self.map_shape)

    def compute(self, pixels: Tensor) -> Tensor:
        """``[*B, H, W, C]``, from 0 to 255, to ``[*B, out_features]``."""
        images = pixels.reshape(-1, *self.image_shape)
        x = images.permute(0, 3, 1, 2).float() / 255.0 if self.pixels is None else self.pixels(images)
        for stack in self.stacks:
            x = stack(x)
        return x.relu().flatten(1).reshape(*pixels.shape[:-3], self.out_features)
