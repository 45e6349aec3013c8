"""What a plan hands on to the next one."""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor

from wmcomponents._arguments import whole
from wmcomponents.agents.planners.plan import Plan


def shifted(sequence: Tensor, tail: Tensor) -> Tensor:
    """A sequence ``[*B, H, A]`` without its first step, and a last one ``[*B, 1, A]`` behind it."""
    return torch.cat([sequence[..., 1:, :], tail], -2)


class WarmStart(ABC):
    """Where a plan begins, from what the plan before it found."""

    carries = True
    """Whether anything is carried."""

    @abstractmethod
    def kept(self, plan: Plan) -> Tensor:
        """What the next plan is told of this one, ``[*B, H, A]``."""

    @abstractmethod
    def begin(self, kept: Tensor, center: Tensor) -> Tensor:
        """The sequence that the next plan begins with, ``[*B, H, A]``.

        Args:
            kept: by the plan before, ``[*B, H, A]``.
            center: the sequence in the middle of all actions, where a plan without a past begins, ``[*B, H, A]``.
        """


class ColdStart(WarmStart):
    """Every plan begins in the middle of all actions, as PlaNet's."""

    carries = False

    def kept(self, plan: Plan) -> Tensor:
        """The mean, which nobody reads."""
        return plan.params["mean"]

    def begin(self, kept: Tensor, center: Tensor) -> Tensor:
        """The center."""
        return center


class ShiftedPlan(WarmStart):
    """The plan before, one step on.

    Args:
        what: the ``"mean"`` of the search distribution, or the ``"best"`` sequence.
        tail: of the last step, about which the plan before knew nothing: the ``"center"`` of all actions, or the
            ``"last"`` action again.
        steps: how many steps were executed.
    """

    def __init__(
        self, what: Literal["mean", "best"] = "mean", tail: Literal["center", "last"] = "center", steps: int = 1
    ) -> None:
        if what not in ("mean", "best") or tail not in ("center", "last"):
            raise ValueError(f"what is 'mean' or 'best' and tail 'center' or 'last'; got {what!r} and {tail!r}.")
        self.what, self.tail, self.steps = (
            what,
            tail,
            whole("steps", steps, 1, "a number of executed steps, at least 1"),
        )

    def kept(self, plan: Plan) -> Tensor:
        """The mean, or the best sequence."""
        return plan.params["mean"] if self.what == "mean" else plan.best

    def begin(self, kept: Tensor, center: Tensor) -> Tensor:
        """Shifted."""
        for _ in range(min(self.steps, kept.shape[-2])):
            kept = shifted(kept, (center if self.tail == "center" else kept)[..., -1:, :])
        return kept
