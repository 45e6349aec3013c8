"""Search by sampling: draw candidates, judge them, fit the distribution to the best ones."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wmcomponents._arguments import whole
from wmcomponents.agents.planners.elites import Selection, taken
from wmcomponents.agents.planners.plan import Plan, Score, Stage, better_of
from wmcomponents.agents.planners.proposal import Bound, Proposal, of_each
from wmcomponents.agents.planners.recycled import Recycled
from wmcomponents.world_model import Noise


class SequenceSearch(ABC):
    """A way to search for the best sequence of actions, one iteration at a time.

    Attributes:
        elites: how many elites a plan holds, K.
        carries_elites: whether a plan begins with the elites of the one before it.
        needs_gradient: whether scores have to be differentiable.
    """

    elites: int
    carries_elites = False
    needs_gradient = False

    @abstractmethod
    def begin(self, center: Tensor, elites: Tensor | None = None) -> Plan:
        """A plan before its first iteration.

        Args:
            center: the sequence to begin with, ``[*B, H, A]``.
            elites: of the plan before, ``[*B, K, H, A]``; rows of zeros have none.
        """

    @abstractmethod
    def draw(
        self,
        batch_size: Sequence[int],
        horizon: int,
        size: int,
        iteration: int,
        stage: Stage,
        given: int,
        generator: torch.Generator,
    ) -> Noise:
        """Noise for one iteration, ``[*batch_size, ...]`` each.

        Args:
            batch_size: of the rows.
            horizon: H.
            size: of an action's vector, A.
            iteration: its index.
            stage: where it stands.
            given: how many candidates come from elsewhere.
            generator: the source.
        """

    @abstractmethod
    def count(self, iteration: int, stage: Stage, given: int) -> int:
        """How many candidates an iteration judges, those from elsewhere included.

        Args:
            iteration: its index.
            stage: where it stands.
            given: how many come from elsewhere.
        """

    @abstractmethod
    def improve(
        self,
        plan: Plan,
        score: Score,
        noise: Noise,
        stage: Stage,
        given: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Plan:
        """One iteration.

        Args:
            plan: before it.
            score: values of candidates.
            noise: as :meth:`draw` gives it.
            stage: where the iteration stands.
            given: candidates from elsewhere, such as a policy's, ``[*B, P, H, A]``.
            mask: 1 for the entries of the action that a row has, 0 for the others, ``[*B, A]``.
        """


Population = Callable[[int], int]
"""Number of candidates of an iteration, given ones included, kept ones not."""


@dataclass(frozen=True)
class ConstantPopulation:
    """As many candidates at every iteration.

    Attributes:
        count: how many.
    """

    count: int

    def __call__(self, iteration: int) -> int:
        """Of an iteration."""
        return self.count


@dataclass(frozen=True)
class DecayingPopulation:
    """iCEM's: fewer candidates at every iteration, ``ceil(max(count / decay ** i, least))``.

    Attributes:
        count: of the first iteration.
        decay: factor by which they become fewer.
        least: how many there are at least.
    """

    count: int
    decay: float
    least: int

    def __call__(self, iteration: int) -> int:
        """Of an iteration."""
        return math.ceil(max(self.count * self.decay**-iteration, self.least))


Momentum = float | Mapping[str, Bound]
"""Share of the old parameters in the new ones, of all or by parameter; there of all numbers of an action or of each."""


class SamplingSearch(SequenceSearch):
    """The cross-entropy method and its kin: which one follows from the parts.

    Args:
        proposal: the search distribution.
        selection: the elites that it is fitted to, and their weights.
        candidates: how many in all, those given from elsewhere included; or how many of each iteration.
        momentum: share of the old parameters in the new ones; by parameter where they differ, 0 for one not named.
        recycled: further candidates from earlier iterations.

    Raises:
        ValueError: if there are fewer candidates than elites, or a momentum is no share.
    """

    def __init__(
        self,
        proposal: Proposal,
        selection: Selection,
        candidates: int | Population,
        *,
        momentum: Momentum = 0.0,
        recycled: Recycled | None = None,
    ) -> None:
        if not callable(candidates):
            candidates = ConstantPopulation(whole("candidates", candidates, 1, "a number of candidates, at least 1"))
        if candidates(0) < selection.count:
            raise ValueError(
                f"{selection.count} elites cannot be selected from {candidates(0)} candidates: draw more or keep fewer."
            )
        for share in momentum.values() if isinstance(momentum, Mapping) else [momentum]:
            if not bool(((torch.as_tensor(share) >= 0) & (torch.as_tensor(share) < 1)).all()):
                raise ValueError(f"momentum is a share in [0, 1); got {momentum}.")
        self.proposal, self.selection, self.candidates = proposal, selection, candidates
        self.momentum, self.recycled = momentum, recycled
        self.elites = selection.count
        self.carries_elites = recycled is not None and recycled.carries_elites

    def begin(self, center: Tensor, elites: Tensor | None = None) -> Plan:
        """A plan around a sequence ``[*B, H, A]``."""
        if elites is None:
            elites = center.new_zeros(*center.shape[:-2], self.elites, *center.shape[-2:])
        has_elites = (elites != 0).flatten(-3).any(-1, keepdim=True)
        weights = has_elites.to(center.dtype).expand(*center.shape[:-2], self.elites) / self.elites
        value = center.new_full(center.shape[:-2], -torch.inf)
        return Plan(self.proposal.begin(center), elites, weights, center, value, value < 0)

    def draw(
        self,
        batch_size: Sequence[int],
        horizon: int,
        size: int,
        iteration: int,
        stage: Stage,
        given: int,
        generator: torch.Generator,
    ) -> Noise:
        """The proposal's noise, and that of what is recycled."""
        count = self.candidates(iteration) - given
        noise = self.proposal.draw((*batch_size, count), horizon, size, generator)
        if self.recycled is not None:
            noise.update(self.recycled.draw(batch_size, self.elites, size, stage, generator))
        return noise

    def count(self, iteration: int, stage: Stage, given: int) -> int:
        """The population and what is recycled."""
        more = 0 if self.recycled is None else self.recycled.count_at(stage)
        return self.candidates(iteration) + more

    def improve(
        self,
        plan: Plan,
        score: Score,
        noise: Noise,
        stage: Stage,
        given: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Plan:
        """Sample, judge, select, fit."""
        parts = [] if given is None else [given]
        parts.append(self.proposal.sample(plan.params, noise))
        has_more = None
        if self.recycled is not None:
            more, has_more = self.recycled.candidates(plan, noise, stage)
            parts.append(more)
        candidates = torch.cat(parts, -3) if len(parts) > 1 else parts[0]
        if mask is not None:
            candidates = candidates * mask[..., None, None, :]
        values = score(candidates)
        is_finite = plan.is_finite & values.isfinite().all(-1)
        if has_more is not None:
            count = candidates.shape[-3] - parts[-1].shape[-3]
            is_there = torch.arange(candidates.shape[-3], device=values.device) < count
            values = values.where(is_there | has_more.unsqueeze(-1), -torch.inf)
        elite_values, index, weights = self.selection(values)
        elites = taken(candidates, index)
        params = self._fitted(plan, elites, weights, mask)
        best, best_value = better_of(plan, elites[..., 0, :, :], elite_values[..., 0])
        return Plan(params, elites, weights, best, best_value, is_finite)

    def _fitted(self, plan: Plan, elites: Tensor, weights: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
        """The new parameters, mixed with the old ones; 0 in the entries that a row lacks."""
        params = self.proposal.fit(plan.params, elites, weights)
        if self.momentum:
            old, given = plan.params, self.momentum
            shares = given if isinstance(given, Mapping) else dict.fromkeys(params, given)
            params = {
                key: mixed(old[key], value, shares[key]) if key in shares else value for key, value in params.items()
            }
        if mask is not None:
            params = {
                key: value * (mask.unsqueeze(-2) if value.ndim > mask.ndim else mask) for key, value in params.items()
            }
        return params


def mixed(old: Tensor, new: Tensor, share: Bound) -> Tensor:
    """A parameter with a share of the old one in it."""
    share = of_each(share, new)
    return share * old + (1.0 - share) * new
