"""An actor: features to a distribution over actions."""

from collections.abc import Sequence

import torch
from tensordict import NestedKey
from tensordict.nn.probabilistic import InteractionType, interaction_type
from torch import Tensor
from torchrl.data import TensorSpec

from wmcomponents.agents.actor_critic.action_distributions import (
    ActionDistribution,
    BoundedNormalActions,
    CategoricalActions,
)
from wmcomponents.codecs import ActionVector, DiscreteCodec
from wmcomponents.component import Component
from wmcomponents.nn import MLP, Norm, linear
from wmcomponents.nn.layers.activation import Activation


class Actor(Component):
    """A policy over a world model's features, for the dream and, behind the filter, for reality.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "latent" | [*B, in_features] | float | read |
        | ("noise", "action") | [*B, distribution.noise_size] | float | read, optional |
        | "action" | [*B, *action shape] | as the action spec says | written |
        | "sample_log_prob" | [*B] | float, of the action drawn | written |

    Without noise it follows TorchRL's ``set_exploration_type``: a sample from torch's global generator where that is
    ``RANDOM``, else the mode.

    Args:
        in_features: size of the features.
        action_spec: spec of one action.
        distribution: what the raw outputs mean; categorical for choices and DreamerV3's bounded normal for numbers, if
            not given.
        units: width of the hidden layers.
        layers: hidden layers.
        outscale: factor on the initial weight of the output layer: near 0, all actions are alike at first.
        norm: normalisation.
        act: activation.
        bias: whether the hidden layers have biases.
        in_keys: features and noise.
        out_keys: the action and its log probability.

    Raises:
        ValueError: if the distribution is not over the action's vector.

    Example:
        >>> from torchrl.data import OneHot
        >>> action, log_prob = Actor(16, OneHot(3), units=8)(latent=torch.randn(5, 16))
        >>> action.shape, log_prob.shape
        (torch.Size([5, 3]), torch.Size([5]))
    """

    def __init__(
        self,
        in_features: int,
        action_spec: TensorSpec,
        *,
        distribution: ActionDistribution | None = None,
        units: int = 256,
        layers: int = 3,
        outscale: float = 0.01,
        norm: Norm = "rms",
        act: Activation = "silu",
        bias: bool = True,
        in_keys: Sequence[NestedKey] = ("latent", ("noise", "action")),
        out_keys: Sequence[NestedKey] = ("action", "sample_log_prob"),
    ) -> None:
        super().__init__(in_keys, out_keys, optional_keys=in_keys[1:])
        self.action_vector = ActionVector(action_spec)
        self.distribution = _usual(self.action_vector) if distribution is None else distribution
        size = self.action_vector.size
        with torch.no_grad():
            described = self.distribution.mode(torch.zeros(self.distribution.params)).shape[-1]
        if described != size:
            raise ValueError(f"the action is a vector of {size} numbers, and the distribution is over {described}.")
        self.mlp = MLP(in_features, units, layers, norm, act, bias)
        self.out = linear(self.mlp.out_features, self.distribution.params, outscale)

    def raw(self, feat: Tensor) -> Tensor:
        """Raw outputs ``[*B, distribution.params]`` of features ``[*B, in_features]``."""
        return self.out(self.mlp(feat))

    def compute(self, feat: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """An action ``[*B, *action shape]`` and its log probability ``[*B]``."""
        raw = self.raw(feat)
        if noise is None and interaction_type() is InteractionType.RANDOM:
            draw = torch.rand if self.distribution.noise_kind == "uniform" else torch.randn
            noise = draw(*feat.shape[:-1], self.distribution.noise_size, device=feat.device)
        vector = self.distribution.mode(raw) if noise is None else self.distribution.sample(raw, noise)
        return self.action_vector.inverse(vector), self.distribution.log_prob(raw, vector.detach())


def _usual(action: ActionVector) -> ActionDistribution:
    if isinstance(action.codec, DiscreteCodec):
        return CategoricalActions(action.codec.classes)
    return BoundedNormalActions(action.size)
