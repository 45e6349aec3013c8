"""How real steps, updates of the model, updates of the behaviour and evaluations follow each other."""

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
        steps_between: real steps, over all environments, between two looks at whether updates are due; the papers that
            collect whole episodes between long phases of learning have a large number here.
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
        if not self.updates_per_step >= 0.0:
            raise ValueError(f"updates_per_step is at least 0; got {self.updates_per_step}.")

    def updates_due(self, steps: int) -> int:
        """Updates of the model, in all, by the time that so many real steps were taken.

        Args:
            steps: real steps over all environments.
        """
        if steps < self.prefill:
            return 0
        return self.pretrain + int((steps - self.prefill) * self.updates_per_step)

    def vary(self, **changes: Any) -> "Schedule":
        """The same with other numbers.

        Args:
            **changes: attributes by name.
        """
        return replace(self, **changes)
