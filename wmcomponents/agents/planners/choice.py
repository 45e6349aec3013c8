"""The sequence that is executed, out of a finished plan."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from wmcomponents.agents.planners.plan import Plan
from wmcomponents.world_model import Noise


class Choice(ABC):
    """Picks a sequence."""

    def draw(self, batch_size: Sequence[int], elites: int, size: int, generator: torch.Generator) -> Noise:
        """Noise for :meth:`sequence` and :meth:`explored`, ``[*batch_size, ...]``; nothing unless a choice says so."""
        return {}

    @abstractmethod
    def sequence(self, plan: Plan, noise: Noise) -> Tensor:
        """The sequence, ``[*B, H, A]``."""

    def explored(self, action: Tensor, plan: Plan, noise: Noise) -> Tensor:
        """Its first action ``[*B, A]`` as an explorer takes it; the same unless a choice says so."""
        return action


class MeanSequence(Choice):
    """The mean of the search distribution; of choices, the likeliest ones."""

    def sequence(self, plan: Plan, noise: Noise) -> Tensor:
        """The mean."""
        return plan.params["mean"]


class BestSequence(Choice):
    """The best candidate of all iterations."""

    def sequence(self, plan: Plan, noise: Noise) -> Tensor:
        """The best."""
        return plan.best


class LastSequence(Choice):
    """Where the last step of a search by gradient has led the best of the sequences judged before it."""

    def sequence(self, plan: Plan, noise: Noise) -> Tensor:
        """The last."""
        return plan.params["last"]


class DeadZone(Choice):
    """Another choice, whose numbers become 0 where they are small: V-JEPA 2-AC's gripper below a quarter.

    Args:
        choice: gives the sequence.
        below: for each number the size below which it becomes 0, ``[A]``.
    """

    def __init__(self, choice: Choice, below: Tensor) -> None:
        self.choice, self.below = choice, below

    def draw(self, batch_size: Sequence[int], elites: int, size: int, generator: torch.Generator) -> Noise:
        """As the choice."""
        return self.choice.draw(batch_size, elites, size, generator)

    def sequence(self, plan: Plan, noise: Noise) -> Tensor:
        """The choice's, without its small numbers."""
        sequence = self.choice.sequence(plan, noise)
        return sequence.where(sequence.abs() >= self.below.to(sequence), torch.zeros_like(sequence))

    def explored(self, action: Tensor, plan: Plan, noise: Noise) -> Tensor:
        """As the choice."""
        return self.choice.explored(action, plan, noise)


class SampledElite(Choice):
    """One of the last iteration's elites, drawn by its weight; an explorer adds the distribution's spread to it.

    Noise: ``exponential`` ``[*B, K]``, with rate 1, and ``explore`` ``[*B, A]``, standard normal. The elite is
    ``argmax(log weight - log exponential)``.

    Reference: Hansen et al., TD-MPC2: Scalable, Robust World Models for Continuous Control (2024), and its code.
    """

    def draw(self, batch_size: Sequence[int], elites: int, size: int, generator: torch.Generator) -> Noise:
        """``exponential`` and ``explore``."""
        device = generator.device
        uniform = torch.rand(*batch_size, elites, generator=generator, device=device)
        explore = torch.randn(*batch_size, size, generator=generator, device=device)
        return {"exponential": -torch.log1p(-uniform), "explore": explore}

    def sequence(self, plan: Plan, noise: Noise) -> Tensor:
        """The elite that is drawn."""
        index = (plan.weights.log() - noise["exponential"].log()).argmax(-1, keepdim=True)
        return plan.elites.take_along_dim(index[..., None, None], -3).squeeze(-3)

    def explored(self, action: Tensor, plan: Plan, noise: Noise) -> Tensor:
        """With the spread of the first step, within [-1, 1]; the same for choices, which have none."""
        if "std" not in plan.params:
            return action
        return (action + plan.params["std"][..., 0, :] * noise["explore"]).clamp(-1.0, 1.0)
