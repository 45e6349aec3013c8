"""Scalar head over exponentially spaced bins."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from tensordict import NestedKey
from torch import Tensor

from wmcomponents.codecs.reward_unit import warn_beyond
from wmcomponents.functional import symexp_bins, two_hot_cross_entropies, two_hot_cross_entropy, two_hot_mean
from wmcomponents.heads.distribution import HeadDistribution
from wmcomponents.heads.head import Head
from wmcomponents.nn import MLP, Norm, linear
from wmcomponents.nn.layers.activation import Activation


class TwoHotDistribution(HeadDistribution):
    """A scalar as weights of the two bins around it; bins, weights and expected value are in plain units.

    Args:
        bins: increasing bin centres in plain units, ``bins == -bins.flip(0)``.
    """

    bins: Tensor

    def __init__(self, bins: Float[Tensor, " bins"]) -> None:
        super().__init__()
        self.size = bins.shape[0]
        self.register_buffer("bins", bins, persistent=False)

    @property
    def largest(self) -> float:
        """The largest number that the bins hold."""
        return float(self.bins[-1])

    def prepare(self, target: Tensor) -> None:
        """Warn of numbers beyond the bins.

        Args:
            target: of the data, ``[*B, 1]``.
        """
        warn_beyond(target, self.largest, "the last bin stands for all of them", "Build the head with more bins")

    def mean(self, raw: Tensor) -> Tensor:
        """Expected value ``[*B, 1]`` of logits ``[*B, bins]``."""
        return two_hot_mean(raw, self.bins).unsqueeze(-1)

    def loss(self, raw: Tensor, target: Tensor) -> Tensor:
        """Cross entropy with the two-hot target ``[*B, 1]``: ``[*B]``."""
        return two_hot_cross_entropy(raw, target.squeeze(-1), self.bins)

    def losses(self, raw: Tensor, targets: Sequence[Tensor]) -> list[Tensor]:
        """:meth:`loss` against several truths, normalised once."""
        return list(two_hot_cross_entropies(raw, torch.cat(list(targets), -1), self.bins).unbind(-1))


class TwoHotHead(Head):
    """DreamerV3's reward and value head: a scalar of any magnitude as a distribution over symexp-spaced bins.

    Its output layer starts at zero, and the expected value of uniform probabilities is exactly 0.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "feat" | [*B, in_features] | float | read |
        | "reward_logits" | [*B, bins] | float | written |
        | "reward" | [*B, 1] | float, plain units (not symlog) | written |

    Args:
        in_features: size of the features.
        units: width of the hidden layers.
        layers: hidden layers: 1 for the reward, 3 for the value.
        bins: number of bins, from -symexp(20) to symexp(20).
        outscale: factor on the initial weight of the output layer.
        norm: normalisation.
        act: activation.
        bias: whether the hidden layers have biases.
        in_keys: the features.
        out_keys: logits and expected value.

    Reference: Hafner et al., Mastering Diverse Domains through World Models (DreamerV3), eq. 10 and 11.

    Example:
        >>> import torch
        >>> head = TwoHotHead(16, units=8)
        >>> logits, reward = head(feat=torch.randn(5, 16))
        >>> logits.shape, reward.abs().max()
        (torch.Size([5, 255]), tensor(0., grad_fn=<MaxBackward1>))
    """

    def __init__(
        self,
        in_features: int,
        units: int = 1024,
        layers: int = 1,
        bins: int = 255,
        outscale: float = 0.0,
        norm: Norm = "rms",
        act: Activation = "silu",
        bias: bool = True,
        in_keys: Sequence[NestedKey] = ("feat",),
        out_keys: Sequence[NestedKey] = ("reward_logits", "reward"),
    ) -> None:
        mlp = MLP(in_features, units, layers, norm, act, bias)
        out = linear(mlp.out_features, bins, outscale)
        super().__init__(mlp, out, TwoHotDistribution(symexp_bins(bins)), in_keys, out_keys)
