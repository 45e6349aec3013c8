"""MuZero's prediction function f: policy and value of a latent."""

from collections.abc import Sequence

from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.codecs.support import Support
from wmcomponents.component import Component

OUT_KEYS: tuple[NestedKey, ...] = ("policy", "value_logits", "state_value")


class PredictionHead(Component):
    """Policy and value from any two networks, behind a trunk that they share.

    Perceptrons for vectors, ``nn.ReducedHead`` behind residual blocks for planes.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "latent" | [*B, *latent shape] | float | read |
        | "policy" | [*B, params] | float, raw outputs of :class:`PolicyDistribution` | written |
        | "value_logits" | [*B, bins] | float | written |
        | "state_value" | [*B, 1] | float, env units | written |

    Args:
        trunk: what both share.
        policy: trunk to raw outputs of the policy.
        value: trunk to value logits.
        support: of the value.
        event_dims: dimensions of a latent: 1 for vectors, 3 for planes.
        in_keys: the latent.
        out_keys: policy, value logits, value.

    Reference: Schrittwieser et al., MuZero (2020), appendix F.

    Example:
        >>> import torch
        >>> from wmcomponents.nn import Perceptron
        >>> from wmcomponents.codecs import Support
        >>> support = Support.integers(10)
        >>> head = PredictionHead(torch.nn.Identity(), Perceptron(8, [], 2), Perceptron(8, [], 21), support)
        >>> [out.shape[-1] for out in head(latent=torch.zeros(5, 8))]
        [2, 21, 1]
    """

    def __init__(
        self,
        trunk: nn.Module,
        policy: nn.Module,
        value: nn.Module,
        support: Support,
        event_dims: int = 1,
        in_keys: Sequence[NestedKey] = ("latent",),
        out_keys: Sequence[NestedKey] = OUT_KEYS,
    ) -> None:
        super().__init__(in_keys, out_keys)
        self.trunk, self.policy, self.value, self.support, self.event_dims = trunk, policy, value, support, event_dims

    def raw(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Raw policy ``[*B, params]`` and value logits ``[*B, bins]``."""
        lead = latent.shape[: latent.ndim - self.event_dims]
        shared = self.trunk(latent.reshape(-1, *latent.shape[latent.ndim - self.event_dims :]))
        policy, value = self.policy(shared), self.value(shared)
        return policy.reshape(*lead, -1), value.reshape(*lead, -1)

    def mean(self, value_logits: Tensor) -> Tensor:
        """Value in env units, ``[*B, 1]``."""
        return self.support.mean(value_logits).unsqueeze(-1)

    def compute(self, latent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Raw policy ``[*B, params]``, value logits ``[*B, bins]``, value ``[*B, 1]``."""
        policy, value = self.raw(latent)
        return policy, value, self.mean(value)
