"""Head of one choice among classes."""

from collections.abc import Sequence

from tensordict import NestedKey
from torch import Tensor

from wmcomponents.component import Component
from wmcomponents.functional import categorical_log_prob, unimix_log_probs, unimix_probs
from wmcomponents.nn import MLP, Norm, linear
from wmcomponents.nn.layers.activation import Activation


class CategoricalHead(Component):
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
        super().__init__(in_keys, out_keys)
        self.mlp = MLP(in_features, units, layers, norm, act, bias)
        self.out = linear(self.mlp.out_features, classes, outscale)
        self.unimix = unimix

    def raw(self, feat: Tensor) -> Tensor:
        """Logits before the mixing, ``[*B, classes]``."""
        return self.out(self.mlp(feat))

    def mean(self, raw: Tensor) -> Tensor:
        """Probabilities after the mixing, ``[*B, classes]``."""
        return unimix_probs(raw, self.unimix)

    def loss(self, raw: Tensor, target: Tensor) -> Tensor:
        """Cross entropy with a one-hot or soft target ``[*B, classes]``: ``[*B]``."""
        return -categorical_log_prob(unimix_log_probs(raw, self.unimix), target.detach())

    def compute(self, feat: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and probabilities."""
        raw = self.raw(feat)
        return raw, self.mean(raw)
