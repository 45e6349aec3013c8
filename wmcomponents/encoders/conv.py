"""Image encoder."""

from collections.abc import Sequence

import torch
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.component import Component
from wmcomponents.nn import Norm, PoolStage, Stage
from wmcomponents.nn.layers.activation import Activation


class ConvEncoder(Component):
    """Encoder of images: one stage for each entry of ``mults``, each about halving the resolution.

    The papers differ in the stage: ``PoolStage`` (the default) is DreamerV3's, ``StrideStage`` that of its preprint,
    ``ValidStage`` with ReLU or ELU and no normalisation that of PlaNet, Dreamer and DreamerV2. Pixels enter as
    ``x / 255 - 0.5``. The result is flattened as (height, width, channel).

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "pixels" | [*B, H, W, C] | uint8 | read |
        | "embed" | [*B, out_features] | float | written |

    Args:
        image_shape: (H, W, C); for stages that halve exactly, the sides must be divisible by 2 to their number.
        depth: channels are ``depth * mult``.
        mults: one factor a stage.
        kernel: kernel size; ``PoolStage`` takes odd ones.
        stage: the kind of stage.
        norm: normalisation over channels.
        act: activation.
        bias: whether the convolutions have biases.
        in_keys: the image.
        out_keys: the embedding.

    Raises:
        ValueError: if the image cannot pass that many stages, or the stage refuses the kernel.

    Reference: Hafner et al., Mastering Diverse Domains through World Models (DreamerV3), Table 3; Ha and Schmidhuber,
    World Models (2018), appendix A.1, for the convolutions without padding.

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
        stage: type[Stage] = PoolStage,
        norm: Norm = "rms",
        act: Activation = "silu",
        bias: bool = True,
        in_keys: Sequence[NestedKey] = ("pixels",),
        out_keys: Sequence[NestedKey] = ("embed",),
    ) -> None:
        super().__init__(in_keys, out_keys)
        height, width, channels = image_shape
        left = [stage.reduced(side, kernel, len(mults)) for side in (height, width)]
        sizes = [channels, *(depth * mult for mult in mults)]
        pairs = zip(sizes[:-1], sizes[1:], strict=True)
        self.stages = nn.ModuleList(stage(i, o, kernel, norm, act, bias) for i, o in pairs)
        self.image_shape = (height, width, channels)
        self.out_features = left[0] * left[1] * sizes[-1]

    def compute(self, pixels: Tensor) -> Tensor:
        """``[*B, H, W, C]``, from 0 to 255, to ``[*B, out_features]``."""
        lead = pixels.shape[:-3]
        x = pixels.reshape(-1, *self.image_shape).permute(0, 3, 1, 2)  # a view: channels last in memory
        x = x.to(torch.float32) / 255.0 - 0.5
        for stage in self.stages:
            x = stage(x)
        return x.permute(0, 2, 3, 1).reshape(*lead, self.out_features)
