"""Heads that say numbers as they are, or through an invertible map."""

from collections.abc import Sequence

from tensordict import NestedKey
from torch import Tensor

from wmcomponents.codecs import Likelihood, SquaredError, Transform, UnitNormal
from wmcomponents.codecs.reward_unit import ORDINARY, warn_beyond
from wmcomponents.heads.distribution import HeadDistribution
from wmcomponents.heads.head import Head
from wmcomponents.nn import MLP, Norm, linear
from wmcomponents.nn.layers.activation import Activation


class NumberDistribution(HeadDistribution):
    """Numbers under a likelihood, in plain or transformed space.

    Args:
        size: how many numbers.
        likelihood: in the network's space.
        transform: from plain space to the network's, for example ``Symlog()``; None for plain space.
    """

    def __init__(self, size: int, likelihood: Likelihood, transform: Transform | None = None) -> None:
        super().__init__()
        self.size, self.likelihood, self.transform = size, likelihood, transform

    def prepare(self, target: Tensor) -> None:
        """Fit the transform to data, once, where there is something to fit; warn of numbers that it cannot say well.

        Args:
            target: of the data, ``[*B, size]``.
        """
        if self.transform is None:
            drowned = "squared, the error of such numbers drowns all other losses"
            warn_beyond(target, ORDINARY, drowned, "Build the model with rewards='scaled' (or standardize=True)")
        elif target.numel():
            self.transform.prepare(target)
            cut = "they come back no larger than that"
            warn_beyond(target, self.transform.largest, cut, "Build the model with rewards='scaled'")

    def mean(self, raw: Tensor) -> Tensor:
        """Value in plain space, ``[*B, size]``."""
        said = self.likelihood.mean(raw)
        return said if self.transform is None else self.transform.inverse(said)

    def loss(self, raw: Tensor, target: Tensor) -> Tensor:
        """Error of the transformed target ``[*B, size]`` under the likelihood, summed: ``[*B]``."""
        target = target.detach()
        return self.likelihood.error(raw, target if self.transform is None else self.transform(target))


class MSEHead(Head):
    """Numbers predicted under squared error (no factor 1/2), in plain or transformed space.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "feat" | [*B, in_features] | float | read |
        | "reward_raw" | [*B, out_features] | float, transformed space | written |
        | "reward" | [*B, out_features] | float, plain space | written |

    Args:
        in_features: size of the features.
        units: width of the hidden layers.
        layers: hidden layers.
        out_features: how many numbers.
        transform: for example ``Symlog()``; None for plain space.
        outscale: factor on the initial weight of the output layer.
        norm: normalisation.
        act: activation.
        bias: whether the hidden layers have biases.
        in_keys: the features.
        out_keys: raw output and its plain value.

    Reference: with ``Symlog()``, Hafner et al., Mastering Diverse Domains through World Models (DreamerV3), eq. 9.

    Example:
        >>> import torch
        >>> raw, reward = MSEHead(16, units=8)(feat=torch.randn(5, 16))
        >>> reward.shape
        torch.Size([5, 1])
    """

    def __init__(
        self,
        in_features: int,
        units: int = 1024,
        layers: int = 1,
        out_features: int = 1,
        transform: Transform | None = None,
        outscale: float = 1.0,
        norm: Norm = "rms",
        act: Activation = "silu",
        bias: bool = True,
        in_keys: Sequence[NestedKey] = ("feat",),
        out_keys: Sequence[NestedKey] = ("reward_raw", "reward"),
    ) -> None:
        mlp = MLP(in_features, units, layers, norm, act, bias)
        out = linear(mlp.out_features, out_features, outscale)
        super().__init__(mlp, out, NumberDistribution(out_features, SquaredError(), transform), in_keys, out_keys)


class NormalHead(Head):
    """The mean of numbers under a normal distribution of standard deviation 1, in plain or transformed space.

    The loss is the negative log density: half the squared error of :class:`MSEHead`, and a constant. PlaNet, Dreamer
    and DreamerV2 predict rewards so; DreamerV2 on Atari with ``transform=TanhTransform()``.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "feat" | [*B, in_features] | float | read |
        | "reward_raw" | [*B, out_features] | float, transformed space | written |
        | "reward" | [*B, out_features] | float, plain space | written |

    Args:
        in_features: size of the features.
        units: width of the hidden layers.
        layers: hidden layers.
        out_features: how many numbers.
        transform: for example ``TanhTransform()``; None for plain space.
        outscale: factor on the initial weight of the output layer.
        norm: normalisation.
        act: activation.
        bias: whether the hidden layers have biases.
        in_keys: the features.
        out_keys: raw output and its plain value.

    Reference: Hafner et al., Learning Latent Dynamics for Planning from Pixels (PlaNet, 2019), eq. 3.

    Example:
        >>> import torch
        >>> head = NormalHead(16, units=8, layers=2, norm="none", act="elu")
        >>> raw, reward = head(feat=torch.randn(5, 16))
        >>> head.loss(raw, torch.zeros(5, 1)).shape
        torch.Size([5])
    """

    def __init__(
        self,
        in_features: int,
        units: int = 1024,
        layers: int = 1,
        out_features: int = 1,
        transform: Transform | None = None,
        outscale: float = 1.0,
        norm: Norm = "rms",
        act: Activation = "silu",
        bias: bool = True,
        in_keys: Sequence[NestedKey] = ("feat",),
        out_keys: Sequence[NestedKey] = ("reward_raw", "reward"),
    ) -> None:
        mlp = MLP(in_features, units, layers, norm, act, bias)
        out = linear(mlp.out_features, out_features, outscale)
        super().__init__(mlp, out, NumberDistribution(out_features, UnitNormal(), transform), in_keys, out_keys)
