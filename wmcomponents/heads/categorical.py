"""Head of one choice among classes."""

from collections.abc import Sequence

from tensordict import NestedKey
from torch import Tensor

from wmcomponents.functional import categorical_log_prob, unimix_log_probs, unimix_probs
from wmcomponents.heads.distribution import HeadDistribution
from wmcomponents.heads.head import Head
from wmcomponents.nn import MLP, Norm, linear
from wmcomponents.nn.layers.activation import Activation


class CategoricalDistribution(HeadDistribution):
    """One of several alternatives.

    Args:
        classes: number of alternatives.
        unimix: share of the uniform distribution that is mixed in.
    """

    def __init__(self, classes: int, unimix: float = 0.0) -> None:
        super().__init__()
        self.size, self.unimix = classes, unimix

    def mean(self, raw: Tensor) -> Tensor:
        """Probabilities after the mixing, ``[*B, classes]``, of logits before it."""
        return unimix_probs(raw, self.unimix)

    def loss(self, raw: Tensor, target: Tensor) -> Tensor:
        """Cross entropy with a one-hot or soft target ``[*B, classes]``: ``[*B]``."""
        return -categorical_log_prob(unimix_log_probs(raw, self.unimix), target.detach())


class CategoricalHead(Head):
    """Probabilities of ``classes`` alternatives, mixed with ``unimix`` parts of the uniform distribution.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "feat" | [*B, in_features] | float | read |
        | "logits" | [*B, classes] | float, before the mixing | written |
        | "probs" | [*B, classes] | float, after the mixing | written |

    Args:
        in_features: size of the features.
        classes: number of alternatives.
        units: width of the hidden layers.
        layers: hidden layers.
        unimix: share of the uniform distribution.
        outscale: factor on the initial weight of the output layer; a policy starts at 0.01 in DreamerV3.
        norm: normalisation.
        act: activation.
        bias: whether the hidden layers have biases.
        in_keys: the features.
        out_keys: logits and probabilities.

    Reference: Hafner et al., Mastering Diverse Domains through World Models (DreamerV3), section "Actor learning".

    Example:
        >>> import torch
        >>> logits, probs = CategoricalHead(16, classes=3, units=8)(feat=torch.randn(5, 16))
        >>> bool(torch.allclose(probs.sum(-1), torch.ones(5)))
        True
    """

    def __init__(
        self,
        in_features: int,
        classes: int,
        units: int = 1024,
        layers: int = 1,
        unimix: float = 0.0,
        outscale: float = 1.0,
        norm: Norm = "rms",
        act: Activation = "silu",
        bias: bool = True,
        in_keys: Sequence[NestedKey] = ("feat",),
        out_keys: Sequence[NestedKey] = ("logits", "probs"),
    ) -> None:
        mlp = MLP(in_features, units, layers, norm, act, bias)
        out = linear(mlp.out_features, classes, outscale)
        super().__init__(mlp, out, CategoricalDistribution(classes, unimix), in_keys, out_keys)
