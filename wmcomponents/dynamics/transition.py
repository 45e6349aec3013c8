"""MuZero's dynamics function g without its reward: a latent and an action to the next latent."""

from collections.abc import Sequence

import torch
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.codecs.action_planes import ActionPlanes
from wmcomponents.component import Component
from wmcomponents.nn.conv.conv3x3 import conv3x3
from wmcomponents.nn.conv.residual import joined, residual_blocks
from wmcomponents.nn.layers.activation import Activation, make_activation
from wmcomponents.nn.layers.batch_norm import BatchNorm2d
from wmcomponents.nn.layers.norm import make_norm
from wmcomponents.nn.layers.perceptron import Perceptron, ResidualPerceptron

OUT_KEYS: tuple[NestedKey, ...] = (("next", "latent"), ("next", "unscaled"))


class MLPTransition(Component):
    """Latent and action, side by side, through a perceptron (muzero-general's "fullyconnected").

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "latent" | [*B, units] | float | read |
        | "action" | [*B, A] | float, one-hot or in [-1, 1] | read |
        | ("next", "latent") | [*B, units] | float | written |
        | ("next", "unscaled") | [*B, units] | float, before the scaling: what the reward is read from | written |

    Args:
        units: size of the latent.
        action: length of an action's vector.
        hidden: widths of the hidden layers.
        skip: whether the latent is added to what comes out; not in muzero-general.
        scale: of the latent; none if not given.
        norm: of the hidden layers.
        act: of the hidden layers.
        in_keys: latent and action.
        out_keys: the next latent, scaled and unscaled.

    Reference: Schrittwieser et al., MuZero (2020), appendix F and G.

    Example:
        >>> import torch
        >>> g = MLPTransition(8, 2, [16])
        >>> g(latent=torch.zeros(5, 8), action=torch.zeros(5, 2))[0].shape
        torch.Size([5, 8])
    """

    def __init__(
        self,
        units: int,
        action: int,
        hidden: Sequence[int],
        skip: bool = False,
        scale: nn.Module | None = None,
        norm: str = "none",
        act: Activation = "elu",
        in_keys: Sequence[NestedKey] = ("latent", "action"),
        out_keys: Sequence[NestedKey] = OUT_KEYS,
    ) -> None:
        super().__init__(in_keys, out_keys)
        self.skip = skip
        self.net = Perceptron(units + action, hidden, units, norm, act)
        self.scale = nn.Identity() if scale is None else scale

    def compute(self, latent: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """The next latent, scaled and unscaled."""
        unscaled = self.net(torch.cat([latent, action], -1))
        if self.skip:
            unscaled = unscaled + latent
        return self.scale(unscaled), unscaled


class StateTransition(Component):
    """EfficientZero-V2's network for vectors: an embedded action, a skip from the latent, residual blocks.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "latent" | [*B, units] | float | read |
        | "action" | [*B, A] | float, one-hot or in [-1, 1] | read |
        | ("next", "latent") | [*B, units] | float | written |
        | ("next", "unscaled") | [*B, units] | float, the same | written |

    Args:
        units: size of the latent.
        action: length of an action's vector.
        hidden: width of the hidden layers.
        action_units: size of the embedded action.
        blocks: residual blocks behind the skip.
        in_keys: latent and action.
        out_keys: the next latent, twice: this form scales nothing.

    Reference: Wang et al., EfficientZero V2 (2024), appendix on architectures.

    Example:
        >>> import torch
        >>> g = StateTransition(8, 2, 16, 4)
        >>> g(latent=torch.zeros(5, 8), action=torch.zeros(5, 2))[0].shape
        torch.Size([5, 8])
    """

    def __init__(
        self,
        units: int = 128,
        action: int = 1,
        hidden: int = 256,
        action_units: int = 64,
        blocks: int = 2,
        in_keys: Sequence[NestedKey] = ("latent", "action"),
        out_keys: Sequence[NestedKey] = OUT_KEYS,
    ) -> None:
        super().__init__(in_keys, out_keys)
        self.embed = nn.Sequential(
            nn.Linear(action, action_units), make_norm("layer", action_units, eps=1e-5), make_activation("relu")
        )
        self.norm = make_norm("layer", units + action_units, eps=1e-5)
        self.net = Perceptron(units + action_units, [hidden], units, act="relu")
        self.blocks = nn.Sequential(*(ResidualPerceptron(units, hidden) for _ in range(blocks)))

    def compute(self, latent: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """The next latent, twice."""
        following = self.blocks(latent + self.net(self.norm(torch.cat([latent, self.embed(action)], -1))))
        return following, following


class ConvTransition(Component):
    """Planes of the latent and of the action: convolution, batch normalisation, ReLU, residual blocks.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "latent" | [*B, channels, H, W] | float | read |
        | "action" | [*B, A] | float, one-hot or in [-1, 1] | read |
        | ("next", "latent") | [*B, channels, H, W] | float | written |
        | ("next", "unscaled") | [*B, channels, H, W] | float, before the scaling | written |

    Args:
        channels: of the latent.
        action_planes: how an action fills planes.
        blocks: residual blocks.
        skip: whether the latent is added before the first ReLU (EfficientZero, LightZero); not in muzero-general.
        scale: of the latent; none if not given.
        in_keys: latent and action.
        out_keys: the next latent, scaled and unscaled.

    Reference: Schrittwieser et al., MuZero (2020), appendix F; Ye et al., EfficientZero (2021), appendix A.1.

    Example:
        >>> import torch
        >>> from wmcomponents.codecs import FractionPlanes
        >>> g = ConvTransition(8, FractionPlanes(3))
        >>> g(latent=torch.zeros(5, 8, 6, 6), action=torch.zeros(5, 3))[0].shape
        torch.Size([5, 8, 6, 6])
    """

    def __init__(
        self,
        channels: int,
        action_planes: ActionPlanes,
        blocks: int = 1,
        skip: bool = False,
        scale: nn.Module | None = None,
        in_keys: Sequence[NestedKey] = ("latent", "action"),
        out_keys: Sequence[NestedKey] = OUT_KEYS,
    ) -> None:
        super().__init__(in_keys, out_keys)
        self.action_planes, self.skip = action_planes, skip
        self.conv = conv3x3(channels + action_planes.planes, channels, bias=False)
        self.bn = BatchNorm2d(channels)
        self.blocks = residual_blocks(channels, blocks)
        self.scale = nn.Identity() if scale is None else scale

    def compute(self, latent: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """The next latent, scaled and unscaled."""
        lead, shape = latent.shape[:-3], latent.shape[-3:]
        flat = latent.reshape(-1, *shape)
        x = self.bn(self.conv(joined(flat, self.action_planes(action).reshape(flat.shape[0], -1))))
        unscaled = self.blocks((x + flat if self.skip else x).relu())
        return self.scale(unscaled).reshape(*lead, *shape), unscaled.reshape(*lead, *shape)
