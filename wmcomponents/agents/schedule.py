"""How real steps, updates of the model, updates of the behaviour and evaluations follow each other."""

import math
from dataclasses import dataclass, replace
from typing import Any

from wmcomponents._arguments import whole


@dataclass(frozen=True)
class Schedule:
    """The timetable of online training.

    Attributes:
        prefill: real steps by random actions before the first update.
        pretrain: updates right after them.
        updates_per_step: updates of the world model for each real step that follows; papers that speak of a train
            ratio r, steps replayed for each real step, mean r / (batch size x sequence length).
        steps_between: real steps, over all environments, between two phases of updates; the papers that collect whole
            episodes between long phases of learning have a large number here.
        agent_every: updates of the model for each of the behaviour.
        evaluate_every: real steps between evaluations; 0 never evaluates.
        evaluate_episodes: episodes of an evaluation.

    Raises:
        ValueError: if a number is out of range.
    """

    prefill: int = 1000
    pretrain: int = 0
    updates_per_step: float = 0.1
    steps_between: int = 1
    agent_every: int = 1
    evaluate_every: int = 0
    evaluate_episodes: int = 10

    def __post_init__(self) -> None:
        for name in ("prefill", "pretrain", "evaluate_every"):
            whole(name, getattr(self, name), 0, "at least 0")
        for name in ("steps_between", "agent_every", "evaluate_episodes"):
            whole(name, getattr(self, name), 1, "at least 1")
        if not 0.0 <= self.updates_per_step < math.inf:
            raise ValueError(f"updates_per_step is a number, at least 0; got {self.updates_per_step}.")

    def updates_due(self, steps: int) -> int:
        """Updates of the model, in all, by the time that so many real steps were taken.

        Args:
            steps: real steps over all environments.
        """
        if steps < max(1, self.prefill):
            return 0
        paid_for = max(0, steps // self.steps_between * self.steps_between - self.prefill)
        return self.pretrain + int(paid_for * self.updates_per_step)

    def agent_updates_due(self, updates: int) -> int:
        """Updates of the behaviour, in all, by the time that the model has had so many.

        Args:
            updates: of the model.
        """
        return updates // self.agent_every

    def next_look(self, steps: int) -> int:
        """Real steps at which something may be due next: updates, an evaluation, or the end of the random actions.

        Args:
            steps: real steps so far.
        """
        every = [self.steps_between, *([self.evaluate_every] if self.evaluate_every else [])]
        looks = [(steps // one + 1) * one for one in every]
        return min([*looks, self.prefill]) if steps < self.prefill else min(looks)

    def vary(self, **changes: Any) -> "Schedule":
        """The same with other numbers.

        Args:
            **changes: attributes by name.
        """
        return replace(self, **changes)
