"""Numbers that change with the steps of training, as functions of the step alone: a resumed run remembers nothing."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class LinearRamp:
    """From one number to another in a straight line, then no further.

    Attributes:
        begin: at step 0.
        end: from step ``steps`` on.
        steps: how many it takes, at least 1.

    Raises:
        ValueError: for fewer steps.

    >>> LinearRamp(0.998, 1.0, 10)(5)
    0.999
    """

    begin: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        _positive(self.steps)

    def __call__(self, step: int) -> float:
        """The number at a step."""
        return self.begin + (self.end - self.begin) * min(1.0, step / self.steps)


@dataclass(frozen=True)
class Cosine:
    """From one number to another along half a cosine, then no further.

    Attributes:
        begin: at step 0.
        end: from step ``steps`` on.
        steps: how many it takes, at least 1.

    Raises:
        ValueError: for fewer steps.

    Reference: Loshchilov and Hutter, SGDR (2017), eq. 5.
    """

    begin: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        _positive(self.steps)

    def __call__(self, step: int) -> float:
        """The number at a step."""
        return self.end + (self.begin - self.end) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / self.steps)))


@dataclass(frozen=True)
class WarmupCosine:
    """A straight rise, then half a cosine down.

    Attributes:
        begin: at step 0.
        peak: at step ``warmup``.
        end: from step ``steps`` on.
        warmup: steps of the rise; 0 for none.
        steps: rise and fall together, more than the rise.

    Raises:
        ValueError: if there is no step for the fall.

    Reference: the codes of I-JEPA (2023) and V-JEPA (2024).
    """

    begin: float
    peak: float
    end: float
    warmup: int
    steps: int

    def __post_init__(self) -> None:
        _positive(self.steps - self.warmup)

    def __call__(self, step: int) -> float:
        """The number at a step."""
        if step < self.warmup:
            return self.begin + (self.peak - self.begin) * step / self.warmup
        return Cosine(self.peak, self.end, self.steps - self.warmup)(step - self.warmup)


@dataclass(frozen=True)
class WarmupStableDecay:
    """A straight rise, a plateau, a straight fall.

    Attributes:
        begin: at step 0.
        peak: from step ``warmup`` on.
        end: from step ``steps`` on.
        warmup: steps of the rise; 0 for none.
        decay: steps of the fall; 0 for none.
        steps: of all three together.

    Raises:
        ValueError: if rise and fall take more.

    Reference: Assran et al., V-JEPA 2 (2025); Zhai et al., Scaling Vision Transformers (2022).
    """

    begin: float
    peak: float
    end: float
    warmup: int
    decay: int
    steps: int

    def __post_init__(self) -> None:
        if min(self.warmup, self.decay) < 0 or self.warmup + self.decay > self.steps:
            raise ValueError(f"a rise of {self.warmup} and a fall of {self.decay} do not fit into {self.steps} steps.")

    def __call__(self, step: int) -> float:
        """The number at a step."""
        if step < self.warmup:
            return self.begin + (self.peak - self.begin) * step / self.warmup
        falling = step - (self.steps - self.decay)
        return self.peak if falling <= 0 else LinearRamp(self.peak, self.end, max(1, self.decay))(falling)


def _positive(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"a schedule has at least one step; got {steps}.")
