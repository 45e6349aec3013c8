"""Timetables in epochs: so many real steps, then so many updates; more parts of an agent join as training goes on."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from wmcomponents._arguments import whole
from wmcomponents.agents.schedule import Schedule


@dataclass(frozen=True)
class Epochs:
    """Epochs of one kind, from a real step on until those of the next kind begin.

    Attributes:
        begin: real steps, over all environments, before the first of them.
        steps: real steps of an epoch.
        updates: updates of the world model behind them. What each trains follows from its number alone, where the
            model's objective has stages (``tokenizer_steps`` and ``tokenizer_every`` of IRIS and Delta-IRIS).
        agent_updates: updates of the behaviour, spread evenly among those of the model.

    Raises:
        ValueError: if a number is out of range, or the behaviour is to learn where the model does not.
    """

    begin: int
    steps: int
    updates: int
    agent_updates: int = 0

    def __post_init__(self) -> None:
        for name, least in (("begin", 0), ("steps", 1), ("updates", 0), ("agent_updates", 0)):
            whole(name, getattr(self, name), least, f"at least {least}")
        if self.agent_updates and not self.updates:
            raise ValueError(
                f"updates of the behaviour are spread among those of the model, of which there are none in an epoch "
                f"with agent_updates={self.agent_updates}: give updates of at least 1."
            )


@dataclass(frozen=True)
class EpochSchedule(Schedule):
    """The timetable of the papers that collect for a while, then learn for a while (IRIS, Delta-IRIS, DIAMOND).

    In place of ``pretrain``, ``updates_per_step``, ``steps_between`` and ``agent_every`` of :class:`Schedule`, which
    are not read, it has ``epochs``. How far a run is follows from its real steps and from the number of the model's
    updates alone, so that it goes on in the middle of an epoch too.

    Attributes:
        epochs: kinds of epochs, in the order in which they begin; each may be given as the numbers of an
            :class:`Epochs` in a tuple, as on a command line.
        last_step: real steps after which epochs without any follow, in which there is only learning; 0 for never.
        epochs_after: how many.

    Raises:
        ValueError: if there are no epochs, they are out of order, or a number is out of range.

    Example:
        >>> first, others = Epochs(100, 50, updates=10), Epochs(200, 50, updates=20, agent_updates=5)
        >>> plan = EpochSchedule(prefill=100, epochs=(first, others))
        >>> [plan.updates_due(steps) for steps in (149, 150, 200, 250)]
        [0, 10, 20, 40]
        >>> [plan.agent_updates_due(updates) for updates in (20, 23, 24, 40)]
        [0, 0, 1, 5]
    """

    epochs: tuple[Epochs, ...] = ()
    last_step: int = 0
    epochs_after: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        given = cast("tuple[Any, ...]", self.epochs)  # from a saved run: bare numbers
        kinds = tuple(one if isinstance(one, Epochs) else Epochs(*one) for one in given)
        object.__setattr__(self, "epochs", kinds)
        for name in ("last_step", "epochs_after"):
            whole(name, getattr(self, name), 0, "at least 0")
        begins = [one.begin for one in self.epochs]
        if not begins or begins != sorted(set(begins)):
            raise ValueError(f"epochs are given in the order in which they begin, one kind at least; got {begins}.")
        if begins[0] + self.epochs[0].steps < self.prefill:
            raise ValueError(
                f"the first updates, after {begins[0] + self.epochs[0].steps} real steps, come before the end of the "
                f"random actions at {self.prefill}: begin the epochs later, or lower prefill."
            )

    def updates_due(self, steps: int) -> int:
        """Updates of the model, in all, by the time that so many real steps were taken.

        Args:
            steps: real steps over all environments.
        """
        done = sum(one.count(steps) * one.kind.updates for one in self._kinds())
        is_over = self.last_step and steps >= self.last_step
        return done + (self.epochs_after * self.epochs[-1].updates if is_over else 0)

    def agent_updates_due(self, updates: int) -> int:
        """Updates of the behaviour, in all, by the time that the model has had so many.

        Args:
            updates: of the model.
        """
        done = 0
        for one in self._kinds():
            kind, all_of_it = one.kind, one.count(None) * one.kind.updates
            own = updates if one.until is None else min(updates, all_of_it)
            if kind.updates:
                done += own * kind.agent_updates // kind.updates
            updates -= own
        return done

    def next_look(self, steps: int) -> int:
        """Real steps at which something may be due next: updates, an evaluation, or the end of the random actions.

        Args:
            steps: real steps so far.
        """
        looks = [one.kind.begin + (one.count(steps) + 1) * one.kind.steps for one in self._kinds()]
        looks += [self.prefill, self.last_step]
        looks += [(steps // self.evaluate_every + 1) * self.evaluate_every] if self.evaluate_every else []
        return min(look for look in looks if look > steps)

    def _kinds(self) -> Iterator["_Kind"]:
        for kind, following in zip(self.epochs, (*self.epochs[1:], None), strict=True):
            yield _Kind(kind, None if following is None else following.begin)


class _Kind(NamedTuple):
    """Epochs of a kind, and the real step at which those of the next kind begin, if any."""

    kind: Epochs
    until: int | None

    def count(self, steps: int | None) -> int:
        """Epochs that are over after so many real steps; all of them, where that is ``None``."""
        ends = [end for end in (steps, self.until) if end is not None]
        return max(0, min(ends, default=0) - self.kind.begin) // self.kind.steps
