"""Candidates from earlier iterations and plans, beside the new ones."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from wmcomponents._arguments import whole
from wmcomponents.agents.planners.plan import Plan, Stage
from wmcomponents.world_model import Noise


class Recycled(ABC):
    """Candidates that are not drawn from the search distribution."""

    carries_elites = False
    """Whether the elites of a plan are needed by the next one."""

    @abstractmethod
    def count_at(self, stage: Stage) -> int:
        """How many there are, R."""

    @abstractmethod
    def draw(
        self, batch_size: Sequence[int], elites: int, size: int, stage: Stage, generator: torch.Generator
    ) -> Noise:
        """Noise for :meth:`candidates`, ``[*batch_size, ...]``."""

    @abstractmethod
    def candidates(self, plan: Plan, noise: Noise, stage: Stage) -> tuple[Tensor, Tensor]:
        """More candidates ``[*B, R, H, A]``, and whether a row has them, bool ``[*B]``."""


class KeptElites(Recycled):
    """iCEM's: some of the elites stay in the population, across iterations and, shifted by one step, across plans.

    Noise: ``order`` ``[*B, K]``, uniform, by whose order elites are kept (at random, not the best ones, as the authors
    of mbrl-lib do); in the first iteration also ``end``, standard normal ``[*B, R, A]``, for the last action of the
    shifted ones. The last iteration adds the mean instead.

    Args:
        count: how many, R.
        variance: key of the search distribution's variance.

    Reference: Pinneri et al., Sample-efficient Cross-Entropy Method for Real-time Planning (iCEM, 2020), section 3.
    """

    carries_elites = True

    def __init__(self, count: int, variance: str = "variance") -> None:
        self.count = whole("count", count, 1, "a number of elites that are kept, at least 1")
        self.variance = variance

    def count_at(self, stage: Stage) -> int:
        """As many as are kept; in the last iteration the mean alone."""
        return 1 if stage == "last" else self.count

    def draw(
        self, batch_size: Sequence[int], elites: int, size: int, stage: Stage, generator: torch.Generator
    ) -> Noise:
        """``order`` and ``end``, as far as the stage needs them."""
        device = generator.device
        if stage == "last":
            return {}
        noise = {"order": torch.rand(*batch_size, elites, generator=generator, device=device)}
        if stage == "first":
            noise["end"] = torch.randn(*batch_size, self.count, size, generator=generator, device=device)
        return noise

    def candidates(self, plan: Plan, noise: Noise, stage: Stage) -> tuple[Tensor, Tensor]:
        """Kept elites, or the mean."""
        mean, has_elites = plan.params["mean"], plan.weights.sum(-1) > 0
        if stage == "last":
            return mean.unsqueeze(-3), has_elites
        index = noise["order"].argsort(-1)[..., : self.count]
        kept = plan.elites.take_along_dim(index[..., None, None], -3)
        if stage == "first":
            std = plan.params[self.variance][..., -1:, :].sqrt()
            end = mean[..., -1:, :] + std * noise["end"]
            kept = torch.cat([kept[..., 1:, :], end.unsqueeze(-2)], -2)
        return kept, has_elites
