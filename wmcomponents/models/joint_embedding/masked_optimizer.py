"""Numbers of the optimiser and of the average that I-JEPA and V-JEPA share."""

from dataclasses import dataclass

from wmcomponents.functional.schedules import Cosine, LinearRamp, WarmupCosine
from wmcomponents.objectives import ExponentialAverage


@dataclass(frozen=True)
class MaskedJEPAOptimizerConfig:
    """Numbers of the optimiser and of the average.

    Attributes:
        lr: peak of the learning rate.
        first_lr: at the first step.
        last_lr: at the end of the schedules.
        weight_decay: at the first step.
        last_weight_decay: at the end of the schedules; it moves along half a cosine.
        momentum: share that the average keeps at the first step.
        last_momentum: at the end of the schedules; it moves in a straight line.
        warmup: steps of the rise of the learning rate.
        steps: of the whole run.
        stretch: the schedules' length over the run's: V-JEPA ends at four fifths of its own.
        max_norm: of the gradients of encoder and predictor, each by itself, after the rise; 0 does not clip.
    """

    lr: float
    first_lr: float
    last_lr: float
    weight_decay: float
    last_weight_decay: float
    momentum: float
    last_momentum: float
    warmup: int
    steps: int
    stretch: float = 1.0
    max_norm: float = 0.0

    @property
    def length(self) -> int:
        """Steps of the schedules."""
        return int(self.steps * self.stretch)

    def rate(self, lr: float | None = None, warmup: int | None = None) -> WarmupCosine:
        """The learning rate of step k, from 1.

        Args:
            lr: another peak; first and last rate change in proportion.
            warmup: other steps of the rise.
        """
        factor = 1.0 if lr is None else lr / self.lr
        rise = self.warmup if warmup is None else warmup
        return WarmupCosine(
            self.first_lr * factor, self.lr * factor, self.last_lr * factor, rise, max(self.length, rise + 1)
        )

    @property
    def decay(self) -> Cosine:
        """The weight decay of step k, from 1."""
        return Cosine(self.weight_decay, self.last_weight_decay, self.length)

    @property
    def average(self) -> ExponentialAverage:
        """The average, whose share moves with the updates, from 0."""
        kept = LinearRamp(self.momentum, self.last_momentum, self.length)
        return ExponentialAverage(lambda step: 1.0 - kept(step))
