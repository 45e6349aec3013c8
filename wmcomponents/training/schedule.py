"""Learning rates over time, as functions of the step alone: a resumed run needs to remember nothing."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ConstantThenDecay:
    """Full rate first, then an exponential fall: a dream is made of one set of weights, not of their average.

    Args:
        steps: after which it begins anew: a round of updates.
        begin: share of the steps at the full rate.
        floor: factor at the end.

    Example:
        >>> schedule = ConstantThenDecay(100, begin=0.5, floor=0.01)
        >>> [round(schedule(step), 3) for step in (0, 50, 75, 100)]
        [1.0, 1.0, 0.1, 1.0]
    """

    steps: int
    begin: float = 0.7
    floor: float = 0.05

    def __call__(self, step: int) -> float:
        """The factor on the rate of step ``step``, from 0."""
        done = (step % self.steps) / self.steps
        return 1.0 if done <= self.begin else self.floor ** ((done - self.begin) / (1.0 - self.begin))


@dataclass(frozen=True)
class LinearDecay:
    """A rate that falls in a straight line and then stays.

    Args:
        steps: after which it has fallen.
        floor: factor from then on.

    Example:
        >>> schedule = LinearDecay(100, floor=0.1)
        >>> [round(schedule(step), 2) for step in (0, 50, 100, 200)]
        [1.0, 0.55, 0.1, 0.1]
    """

    steps: int
    floor: float = 0.05

    def __call__(self, step: int) -> float:
        """The factor on the rate of step ``step``, from 0."""
        return 1.0 + (self.floor - 1.0) * min(1.0, step / self.steps)
