"""Head of the probability that an episode ended."""

from collections.abc import Sequence

from tensordict import NestedKey

from wmcomponents.heads.bernoulli import BernoulliDistribution
from wmcomponents.heads.head import Head
from wmcomponents.nn.layers.simnorm import NormedMLP, small_linear


class TerminationHead(Head):
    """TD-MPC2's termination head: the probability that an episode ended on arriving at a latent.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "latent" | [*B, in_features] | float, of the NEXT step | read |
        | "terminated_logits" | [*B, 1] | float | written |
        | "terminated_probability" | [*B, 1] | float in [0, 1] | written |

    Args:
        in_features: size of the latent.
        units: width of the hidden layers.
        layers: hidden layers.
        in_keys: the latent.
        out_keys: logit and probability.

    Reference: Hansen et al., TD-MPC2: the authors' code, ``episodic=true``.

    Example:
        >>> import torch
        >>> TerminationHead(16, units=8)(latent=torch.randn(5, 16))[1].shape
        torch.Size([5, 1])
    """

    def __init__(
        self,
        in_features: int,
        units: int = 512,
        layers: int = 2,
        in_keys: Sequence[NestedKey] = ("latent",),
        out_keys: Sequence[NestedKey] = ("terminated_logits", "terminated_probability"),
    ) -> None:
        mlp = NormedMLP(in_features, *[units] * layers)
        super().__init__(mlp, small_linear(units, 1), BernoulliDistribution(), in_keys, out_keys)
