"""An ensemble of action values, of which any members can be asked."""

from collections.abc import Sequence

import torch
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.codecs.reward_unit import RewardUnit
from wmcomponents.component import Component
from wmcomponents.functional import even_bins, two_hot_cross_entropy
from wmcomponents.heads.symlog_two_hot import SymlogTwoHotDistribution
from wmcomponents.nn.layers.simnorm import EnsembleLinear, EnsembleNormedLinear


class QEnsemble(Component):
    """TD-MPC2's ensemble of action values, each a distribution over symlog-spaced bins; only those asked for are run.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "state_action" | [*B, in_features] | float | read |
        | "q_logits" | [*B, members, bins] | float | written |
        | "q" | [*B, members] | float, plain units | written |

    Args:
        in_features: size of the input.
        units: width of the two hidden layers.
        members: number of value functions.
        bins: number of bins.
        limit: the outermost bins lie at ``±limit`` in symlog space.
        dropout: share of the first layer's outputs that are dropped in training, before their normalisation; drawn by
            :meth:`draw_keep` and given to :meth:`logits` by whoever trains, never applied by itself.
        unit: of values in plain units; 1 if not given.
        in_keys: the input.
        out_keys: logits and values.

    Reference: Hansen et al., TD-MPC2 (2024), section 3.1.

    Example:
        >>> import torch
        >>> logits, values = QEnsemble(16, units=8, members=3)(state_action=torch.randn(5, 16))
        >>> logits.shape, values.shape
        (torch.Size([5, 3, 101]), torch.Size([5, 3]))
    """

    def __init__(
        self,
        in_features: int,
        units: int = 512,
        members: int = 5,
        bins: int = 101,
        limit: float = 10.0,
        dropout: float = 0.01,
        unit: RewardUnit | None = None,
        in_keys: Sequence[NestedKey] = ("state_action",),
        out_keys: Sequence[NestedKey] = ("q_logits", "q"),
    ) -> None:
        super().__init__(in_keys, out_keys)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is a share in [0, 1); got {dropout}.")
        self.members, self.units, self.dropout = members, units, dropout
        self.mlp = nn.ModuleList(
            [EnsembleNormedLinear(members, in_features, units), EnsembleNormedLinear(members, units, units)]
        )
        self.out = EnsembleLinear(members, units, bins, outscale=0.0)
        self.distribution = SymlogTwoHotDistribution(even_bins(bins, limit), unit)

    def prepare(self, reward: Tensor) -> None:
        """Find the unit, once, where there is one.

        Args:
            reward: of the data, in plain units, ``[*B, 1]``.
        """
        if self.distribution.unit is not None:
            self.distribution.unit.prepare(reward)

    def draw_keep(self, batch_size: Sequence[int], members: int, generator: torch.Generator) -> Tensor | None:
        """What dropout keeps: ``[members, *batch_size, units]``, or ``None`` where nothing is ever dropped."""
        if self.dropout == 0:
            return None
        kept = torch.empty(members, *batch_size, self.units, device=generator.device)
        return kept.bernoulli_(1.0 - self.dropout, generator=generator) / (1.0 - self.dropout)

    def logits(
        self, x: Tensor, members: Tensor | None = None, *, keep: Tensor | None = None, detach: bool = False
    ) -> Tensor:
        """Logits ``[*B, M, bins]`` of ``[*B, in_features]``.

        Args:
            x: state and action.
            members: indices of those wanted, in their order; all if not given.
            keep: of dropout, ``[M, *B, units]``; none is dropped if not given.
            detach: leave the weights out of the gradient, which then reaches the input alone.
        """
        first, second = self.mlp
        keep = None if keep is None else keep.reshape(keep.shape[0], -1, self.units)
        count = self.members if members is None else len(members)
        inputs = x.reshape(1, -1, x.shape[-1]).expand(count, -1, -1)
        out = self.out(second(first(inputs, members, detach, keep), members, detach), members, detach)
        return out.movedim(0, -2).reshape(*x.shape[:-1], *out.shape[::2])

    def mean(self, raw: Tensor) -> Tensor:
        """Values ``[*B, M]`` of logits ``[*B, M, bins]``."""
        return self.distribution.mean(raw).squeeze(-1)

    def loss(self, raw: Tensor, target: Tensor) -> Tensor:
        """Cross entropy of logits ``[*B, M, bins]`` with the target ``[*B, 1]``, mean over the members: ``[*B]``."""
        place = self.distribution.placed(target).expand(raw.shape[:-1])
        return two_hot_cross_entropy(raw, place, self.distribution.bins).mean(-1)

    def compute(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``[*B, members, bins]`` and values ``[*B, members]``."""
        raw = self.logits(x)
        return raw, self.mean(raw)
