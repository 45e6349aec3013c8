"""MuZero's representation function h: a stack of frames to the first latent."""

import math
from collections.abc import Sequence

from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.component import Component
from wmcomponents.nn.conv.residual import Stem, residual_blocks
from wmcomponents.nn.layers.activation import Activation, make_activation
from wmcomponents.nn.layers.norm import make_norm
from wmcomponents.nn.layers.perceptron import Perceptron, ResidualPerceptron


class MLPRepresentation(Component):
    """Everything seen, flattened, through a perceptron (muzero-general's "fullyconnected").

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "stack" | [*B, C, *space] | float | read |
        | "latent" | [*B, units] | float | written |

    Args:
        shape: of the stack, (C, *space).
        hidden: widths of the hidden layers.
        units: size of the latent.
        scale: of the latent, such as ``nn.MinMaxScale()``; none if not given.
        norm: of the hidden layers.
        act: of the hidden layers.
        in_keys: the stack.
        out_keys: the latent.

    Reference: Schrittwieser et al., MuZero (2020), appendix F and G.

    Example:
        >>> import torch
        >>> MLPRepresentation((1, 4), [16], 8)(stack=torch.zeros(5, 1, 4)).shape
        torch.Size([5, 8])
    """

    def __init__(
        self,
        shape: Sequence[int],
        hidden: Sequence[int],
        units: int,
        scale: nn.Module | None = None,
        norm: str = "none",
        act: Activation = "elu",
        in_keys: Sequence[NestedKey] = ("stack",),
        out_keys: Sequence[NestedKey] = ("latent",),
    ) -> None:
        super().__init__(in_keys, out_keys)
        self.shape, self.latent_shape = tuple(shape), (units,)
        self.net = Perceptron(math.prod(self.shape), hidden, units, norm, act)
        self.scale = nn.Identity() if scale is None else scale

    def compute(self, stack: Tensor) -> Tensor:
        """``[*B, C, *space]`` to ``[*B, units]``."""
        return self.scale(self.net(stack.flatten(-len(self.shape))))


class StateRepresentation(Component):
    """EfficientZero-V2's network for vectors: linear, normalised, tanh, then residual blocks.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "stack" | [*B, C, F] | float | read |
        | "latent" | [*B, units] | float | written |

    Args:
        shape: of the stack, (C, F).
        units: size of the latent.
        hidden: width inside the blocks.
        blocks: how many.
        in_keys: the stack.
        out_keys: the latent.

    Reference: Wang et al., EfficientZero V2 (2024), appendix on architectures.

    Example:
        >>> import torch
        >>> StateRepresentation((1, 4), 8, 16)(stack=torch.zeros(5, 1, 4)).shape
        torch.Size([5, 8])
    """

    def __init__(
        self,
        shape: Sequence[int],
        units: int = 128,
        hidden: int = 256,
        blocks: int = 2,
        in_keys: Sequence[NestedKey] = ("stack",),
        out_keys: Sequence[NestedKey] = ("latent",),
    ) -> None:
        super().__init__(in_keys, out_keys)
        self.latent_shape = (units,)
        self.linear = nn.Linear(shape[0] * shape[1], units)
        self.norm, self.act = make_norm("layer", units, eps=1e-5), make_activation("tanh")
        self.blocks = nn.Sequential(*(ResidualPerceptron(units, hidden) for _ in range(blocks)))

    def compute(self, stack: Tensor) -> Tensor:
        """``[*B, C, F]`` to ``[*B, units]``."""
        return self.blocks(self.act(self.norm(self.linear(stack.flatten(-2)))))


class ConvRepresentation(Component):
    """Planes through a stem, which may lower the resolution, and residual blocks.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "stack" | [*B, C, H, W] | float, images in [0, 1] | read |
        | "latent" | [*B, channels, H2, W2] | float | written |

    Args:
        stem: the way in: ``nn.PlainStem``, ``ResidualStem``, ``PooledStem`` or ``NormalizedStem``.
        shape: height and width of the stack.
        channels: of the latent.
        blocks: residual blocks behind the stem.
        scale: of the latent; none if not given.
        in_keys: the stack.
        out_keys: the latent.

    Reference: Schrittwieser et al., MuZero (2020), appendix F; Ye et al., EfficientZero (2021), appendix A.1.

    Example:
        >>> import torch
        >>> from wmcomponents.nn import PlainStem
        >>> h = ConvRepresentation(PlainStem(4, 8), (10, 10), 8)
        >>> h(stack=torch.zeros(5, 4, 10, 10)).shape
        torch.Size([5, 8, 10, 10])
    """

    def __init__(
        self,
        stem: Stem,
        shape: Sequence[int],
        channels: int = 64,
        blocks: int = 1,
        scale: nn.Module | None = None,
        in_keys: Sequence[NestedKey] = ("stack",),
        out_keys: Sequence[NestedKey] = ("latent",),
    ) -> None:
        super().__init__(in_keys, out_keys)
        self.stem = stem
        self.latent_shape = (channels, stem.size(shape[0]), stem.size(shape[1]))
        self.blocks = residual_blocks(channels, blocks)
        self.scale = nn.Identity() if scale is None else scale

    def compute(self, stack: Tensor) -> Tensor:
        """``[*B, C, H, W]`` to ``[*B, channels, H2, W2]``."""
        lead = stack.shape[:-3]
        latent = self.blocks(self.stem(stack.reshape(-1, *stack.shape[-3:])))
        return self.scale(latent).reshape(*lead, *self.latent_shape)
