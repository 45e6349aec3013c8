"""A scalar as a distribution over bins in symlog space."""

from collections.abc import Sequence

from jaxtyping import Float
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.codecs.reward_unit import RewardUnit, warn_beyond
from wmcomponents.functional import even_bins, symexp, symlog, two_hot_cross_entropy, two_hot_mean
from wmcomponents.heads.distribution import HeadDistribution
from wmcomponents.heads.head import Head
from wmcomponents.nn.layers.simnorm import NormedMLP, small_linear


class SymlogTwoHotDistribution(HeadDistribution):
    """A scalar as weights of the two bins around its symlog; the expectation is taken there and then mapped back.

    Args:
        bins: increasing bin centres in symlog space, ``bins == -bins.flip(0)``.
        unit: of numbers in plain units; 1 if not given.
    """

    bins: Tensor

    def __init__(self, bins: Float[Tensor, " bins"], unit: RewardUnit | None = None) -> None:
        super().__init__()
        self.size, self.unit = bins.shape[0], unit
        self.register_buffer("bins", bins, persistent=False)

    @property
    def largest(self) -> float:
        """The largest number that the bins hold, in plain units."""
        held = float(symexp(self.bins[-1]))
        return held if self.unit is None else held * float(self.unit.unit)

    def prepare(self, target: Tensor) -> None:
        """Find the unit, once, where there is one; warn of numbers beyond the bins.

        Args:
            target: of the data, ``[*B, 1]``.
        """
        if self.unit is not None:
            self.unit.prepare(target)
        cut = "the last bin stands for all of them"
        warn_beyond(target, self.largest, cut, "Build the model with rewards='scaled', or a larger limit")

    def placed(self, x: Tensor) -> Tensor:
        """Numbers ``[*shape]`` in plain units where the bins are: their symlog, in units."""
        return symlog(x if self.unit is None else self.unit(x))

    def mean(self, raw: Tensor) -> Tensor:
        """Value ``[*B, 1]`` of logits ``[*B, bins]``: expectation in symlog space, mapped back."""
        said = symexp(two_hot_mean(raw, self.bins)).unsqueeze(-1)
        return said if self.unit is None else self.unit.inverse(said)

    def loss(self, raw: Tensor, target: Tensor) -> Tensor:
        """Cross entropy with the two-hot symlog of the target ``[*B, 1]``: ``[*B]``."""
        return two_hot_cross_entropy(raw, self.placed(target.squeeze(-1)), self.bins)


class SymlogTwoHotHead(Head):
    """TD-MPC2's reward head: a scalar as a distribution over bins that are evenly spaced in symlog space.

    The expectation is taken in symlog space and then mapped back, unlike :class:`TwoHotHead`, whose expectation is
    taken in plain units. The output layer starts at zero, which decodes to 0.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "state_action" | [*B, in_features] | float | read |
        | "reward_logits" | [*B, bins] | float | written |
        | "reward" | [*B, 1] | float, plain units | written |

    Args:
        in_features: size of the input.
        units: width of the hidden layers.
        layers: hidden layers.
        bins: number of bins.
        limit: the outermost bins lie at ``±limit`` in symlog space.
        unit: of numbers in plain units; 1 if not given.
        in_keys: the input.
        out_keys: logits and value.

    Reference: Hansen et al., TD-MPC2 (2024), eq. 4.

    Example:
        >>> import torch
        >>> logits, reward = SymlogTwoHotHead(16, units=8)(state_action=torch.randn(5, 16))
        >>> logits.shape, bool((reward == 0).all())
        (torch.Size([5, 101]), True)
    """

    def __init__(
        self,
        in_features: int,
        units: int = 512,
        layers: int = 2,
        bins: int = 101,
        limit: float = 10.0,
        unit: RewardUnit | None = None,
        in_keys: Sequence[NestedKey] = ("state_action",),
        out_keys: Sequence[NestedKey] = ("reward_logits", "reward"),
    ) -> None:
        mlp = NormedMLP(in_features, *[units] * layers)
        out = small_linear(units, bins)
        nn.init.zeros_(out.weight)
        super().__init__(mlp, out, SymlogTwoHotDistribution(even_bins(bins, limit), unit), in_keys, out_keys)
