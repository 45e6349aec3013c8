"""How a search by gradient moves: the step that an optimiser takes up the slope of the value."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from wmcomponents.agents.planners.proposal import Bound, of_each

Moments = dict[str, Tensor]
"""What a step remembers of those before it, by name."""


class GradientStep(ABC):
    """A pure function of a slope and of what is remembered."""

    def begin(self, candidates: Tensor) -> Moments:
        """What is remembered before the first step, for candidates ``[*B, N, H, A]``; nothing unless a step says so."""
        return {}

    @abstractmethod
    def moved(self, candidates: Tensor, slope: Tensor, moments: Moments) -> tuple[Tensor, Moments]:
        """Candidates one step further up, and what is remembered from now on.

        Args:
            candidates: ``[*B, N, H, A]``.
            slope: of their values, ``[*B, N, H, A]``.
            moments: what is remembered.
        """


@dataclass(frozen=True)
class PlainStep(GradientStep):
    """Along the slope itself, as DINO-WM's: ``candidates + lr * slope``.

    Attributes:
        lr: length of a step, of all numbers of an action or of each, ``[A]``.
    """

    lr: Bound = 1.0

    def moved(self, candidates: Tensor, slope: Tensor, moments: Moments) -> tuple[Tensor, Moments]:
        """See :meth:`GradientStep.moved`."""
        return candidates + of_each(self.lr, slope) * slope, moments


@dataclass(frozen=True)
class AdamStep(GradientStep):
    """Adam, or with a decay AdamW.

    Attributes:
        lr: length of a step, in units of the actions' vectors, of all numbers of an action or of each, ``[A]``.
        betas: decay of both moments.
        shrink: share by which candidates come nearer to 0 before each step: AdamW's decay times its rate.

    Reference: Loshchilov & Hutter, Decoupled Weight Decay Regularization (2019).
    """

    lr: Bound = 0.1
    betas: tuple[float, float] = (0.9, 0.999)
    shrink: float = 0.0

    def begin(self, candidates: Tensor) -> Moments:
        """No moments yet."""
        zeros = torch.zeros_like(candidates)
        return {"first": zeros, "second": zeros, "steps": candidates.new_zeros(())}

    def moved(self, candidates: Tensor, slope: Tensor, moments: Moments) -> tuple[Tensor, Moments]:
        """See :meth:`GradientStep.moved`."""
        one, two = self.betas
        steps = moments["steps"] + 1
        first = one * moments["first"] + (1 - one) * slope
        second = two * moments["second"] + (1 - two) * slope.square()
        step = (first / (1 - one**steps)) / ((second / (1 - two**steps)).sqrt() + 1e-8)
        moved = candidates * (1.0 - self.shrink) + of_each(self.lr, step) * step
        return moved, {"first": first, "second": second, "steps": steps}
