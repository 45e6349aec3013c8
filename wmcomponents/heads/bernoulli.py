"""Head of a probability."""

from collections.abc import Sequence

from tensordict import NestedKey
from torch import Tensor

from wmcomponents.functional import at_least_float32, bernoulli_cross_entropy
from wmcomponents.heads.distribution import HeadDistribution
from wmcomponents.heads.head import Head
from wmcomponents.nn import MLP, Norm, linear
from wmcomponents.nn.layers.activation import Activation


class BernoulliDistribution(HeadDistribution):
    """An event that happens or not."""

    size = 1

    def mean(self, raw: Tensor) -> Tensor:
        """Probability of a logit, ``[*B, 1]``."""
        return at_least_float32(raw).sigmoid()

    def loss(self, raw: Tensor, target: Tensor) -> Tensor:
        """Binary cross entropy with a target in [0, 1], ``[*B, 1]``: ``[*B]``."""
        return bernoulli_cross_entropy(raw, target)


class BernoulliHead(Head):
    """DreamerV3's continue head: the probability of an event, learned from hard or soft targets.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "feat" | [*B, in_features] | float | read |
        | "continue_logits" | [*B, 1] | float | written |
        | "continue" | [*B, 1] | float in [0, 1] | written |

    Args:
        in_features: size of the features.
        units: width of the hidden layers.
        layers: hidden layers.
        outscale: factor on the initial weight of the output layer.
        norm: normalisation.
        act: activation.
        bias: whether the hidden layers have biases.
        in_keys: the features.
        out_keys: logit and probability.

    Reference: Hafner et al., Mastering Diverse Domains through World Models (DreamerV3), eq. 3 and 4.

    Example:
        >>> import torch
        >>> logit, cont = BernoulliHead(16, units=8)(feat=torch.randn(5, 16))
        >>> cont.shape
        torch.Size([5, 1])
    """

    def __init__(
        self,
        in_features: int,
        units: int = 1024,
        layers: int = 1,
        outscale: float = 1.0,
        norm: Norm = "rms",
        act: Activation = "silu",
        bias: bool = True,
        in_keys: Sequence[NestedKey] = ("feat",),
        out_keys: Sequence[NestedKey] = ("continue_logits", "continue"),
    ) -> None:
        mlp = MLP(in_features, units, layers, norm, act, bias)
        super().__init__(mlp, linear(mlp.out_features, 1, outscale), BernoulliDistribution(), in_keys, out_keys)
