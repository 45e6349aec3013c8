"""DreamerV3's scalar head in its preprint."""

from collections.abc import Sequence

import torch
from tensordict import NestedKey

from wmcomponents.heads.head import Head
from wmcomponents.heads.symlog_two_hot import SymlogTwoHotDistribution
from wmcomponents.nn import MLP, Norm, linear
from wmcomponents.nn.layers.activation import Activation


class PreprintTwoHotHead(Head):
    """The reward and value head of DreamerV3's preprint: a distribution over bins in symlog space.

    :class:`TwoHotHead` is the later one. There targets lie between bins of the plain space; here the target is
    ``symlog(y)``, weights and the expected value are those of the symlog space, and the prediction is its ``symexp``.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "feat" | [*B, in_features] | float | read |
        | "reward_logits" | [*B, bins] | float | written |
        | "reward" | [*B, 1] | float, plain units (not symlog) | written |

    Args:
        in_features: size of the features.
        units: width of the hidden layers.
        layers: hidden layers.
        bins: number of bins.
        limit: the outermost bins lie at ``±limit`` in symlog space.
        outscale: factor on the initial weight of the output layer.
        norm: normalisation.
        act: activation.
        bias: whether the hidden layers have biases.
        in_keys: the features.
        out_keys: logits and expected value.

    Reference: Hafner et al., Mastering Diverse Domains through World Models, arXiv 2301.04104v1 (2023), section
    "Critic learning".

    Example:
        >>> import torch
        >>> head = PreprintTwoHotHead(16, units=8)
        >>> logits, reward = head(feat=torch.randn(5, 16))
        >>> logits.shape, bool(reward.abs().max() < 1e-4)
        (torch.Size([5, 255]), True)
    """

    def __init__(
        self,
        in_features: int,
        units: int = 1024,
        layers: int = 1,
        bins: int = 255,
        limit: float = 20.0,
        outscale: float = 0.0,
        norm: Norm = "keras_layer",
        act: Activation = "silu",
        bias: bool = False,
        in_keys: Sequence[NestedKey] = ("feat",),
        out_keys: Sequence[NestedKey] = ("reward_logits", "reward"),
    ) -> None:
        mlp = MLP(in_features, units, layers, norm, act, bias)
        out = linear(mlp.out_features, bins, outscale)
        distribution = SymlogTwoHotDistribution(torch.linspace(-limit, limit, bins))
        super().__init__(mlp, out, distribution, in_keys, out_keys)
