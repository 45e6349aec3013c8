"""TD-MPC2's planner around its world model: policy proposals, the value at the end, tasks."""

from collections.abc import Sequence

import torch
from torch import Tensor

from wmcomponents.agents.planners.objectives import TerminalValue
from wmcomponents.agents.planners.policy_candidates import SequencePolicy
from wmcomponents.models import TDMPC2
from wmcomponents.world_model import Noise, State


def _task(state: State) -> Tensor | None:
    index = state.get("task_index")
    return None if index is None else index.squeeze(-1)


class PriorPolicy(SequencePolicy):
    """The model's policy prior.

    Args:
        model: a TD-MPC2.
    """

    def __init__(self, model: TDMPC2) -> None:
        self.model = model

    def draw(self, batch_size: Sequence[int], generator: torch.Generator) -> Noise:
        """``policy``."""
        return {"policy": self.model.policy.draw(batch_size, generator)}

    def act(self, state: State, noise: Noise) -> Tensor:
        """A sampled action, ``[*B, A]``."""
        return self.model.policy.choose(state["latent"], noise["policy"], self.model.mask_of(_task(state))).action


class PriorValue(TerminalValue):
    """The mean of two value functions, drawn for all rows, at an action that the policy prior samples.

    Args:
        model: a TD-MPC2.
    """

    def __init__(self, model: TDMPC2) -> None:
        self.model, self.policy = model, PriorPolicy(model)

    def draw(self, batch_size: Sequence[int], generator: torch.Generator) -> Noise:
        """``policy``, and ``members``, int64 ``[2]``."""
        members = torch.randperm(self.model.q.members, generator=generator, device=generator.device)[:2]
        return {**self.policy.draw(batch_size, generator), "members": members}

    def value(self, state: State, noise: Noise) -> Tensor:
        """``[*B, 1]``."""
        pair = torch.cat([state["latent"], self.policy.act(state, noise)], -1)
        return self.model.q.mean(self.model.q.logits(pair, noise["members"])).mean(-1, keepdim=True)


def task_discount(model: TDMPC2) -> "float | TaskDiscount":
    """Gamma of a model's task, or of each of its tasks."""
    discounts = model.config.loss.discounts
    return TaskDiscount(discounts) if model.tasks else discounts[0]


class TaskDiscount:
    """Each task's gamma.

    Args:
        discounts: by index of the task.
    """

    def __init__(self, discounts: Sequence[float]) -> None:
        self.discounts = torch.tensor(discounts)

    def __call__(self, state: State) -> Tensor:
        """``[*B, 1]``, of states that hold ``task_index``."""
        index = state["task_index"]
        if self.discounts.device != index.device:
            self.discounts = self.discounts.to(index.device)
        return self.discounts[index]


def task_mask(model: TDMPC2, state: State) -> Tensor | None:
    """1 for the entries of the action that a row's task has, ``[*B, A]``."""
    return model.mask_of(_task(state))
