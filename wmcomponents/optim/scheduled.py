"""Gradient descent whose rate warms up and decays with the steps it has taken."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, Adam, Optimizer

from wmcomponents.optim.stepping import evaluated


def learning_rate_factor(
    step: int, warmup: int = 0, decay_rate: float = 1.0, decay_steps: int = 0, staircase: bool = False
) -> float:
    """Factor on the learning rate at a step (from 0): linear from 0, then decayed exponentially.

    Args:
        step: steps taken before.
        warmup: steps of the rise; 0 for none.
        decay_rate: factor of every ``decay_steps`` steps.
        decay_steps: see above; 0 does not decay.
        staircase: whether the decay comes at once every ``decay_steps`` steps; else smoothly.
    """
    if step < warmup:
        return step / warmup
    if not decay_steps:
        return 1.0
    return decay_rate ** (step // decay_steps if staircase else step / decay_steps)


class Scheduled(Optimizer):
    """The clipping and the schedule, before another optimiser's step.

    Each parameter group keeps how many steps it has ``taken``, and in ``lr`` its rate before the schedule: another
    schedule from outside multiplies with this one.
    """

    def _follow(
        self, max_norm: float | None, warmup: int, decay_rate: float, decay_steps: int, staircase: bool
    ) -> None:
        if max_norm is not None and not max_norm > 0:
            raise ValueError(f"max_norm is positive, or None not to clip; got {max_norm}.")
        if warmup < 0 or decay_steps < 0 or not 0 < decay_rate <= 1:
            raise ValueError(
                f"warmup and decay_steps are at least 0, decay_rate is in (0, 1]; got {warmup}, {decay_steps}, "
                f"{decay_rate}."
            )
        self.max_norm = max_norm
        self.schedule: dict[str, Any] = {
            "warmup": warmup,
            "decay_rate": decay_rate,
            "decay_steps": decay_steps,
            "staircase": staircase,
        }
        for group in self.param_groups:
            group["taken"] = 0

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Clip, and step every parameter that has a gradient at the schedule's rate."""
        loss = evaluated(closure)
        if self.max_norm is not None:
            moving = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
            clip_grad_norm_(moving, self.max_norm)
        rates = [group["lr"] for group in self.param_groups]
        for group, rate in zip(self.param_groups, rates, strict=True):
            group["lr"] = rate * learning_rate_factor(group["taken"], **self.schedule)
            group["taken"] += 1
        super().step()
        for group, rate in zip(self.param_groups, rates, strict=True):
            group["lr"] = rate
        return loss


class ScheduledSGD(Scheduled, SGD):
    """Momentum behind gradient clipping, as MuZero and EfficientZero train.

    Args:
        params: parameters or parameter groups.
        lr: learning rate before the schedule.
        momentum: of the running gradient.
        weight_decay: L2.
        max_norm: largest norm of the whole gradient; ``None`` does not clip it.
        warmup: steps of the linear rise from 0.
        decay_rate: factor of every ``decay_steps`` steps.
        decay_steps: see above; 0 does not decay.
        staircase: whether the decay comes at once.

    Raises:
        ValueError: if a number is out of range.

    Reference: Schrittwieser et al., MuZero (2020), appendix G; Ye et al., EfficientZero (2021), appendix A.2 (0.2,
    norm 5, warm-up of 1 %, a tenth at 100,000).
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 0.05,
        *,
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
        max_norm: float | None = None,
        warmup: int = 0,
        decay_rate: float = 1.0,
        decay_steps: int = 0,
        staircase: bool = False,
    ) -> None:
        super().__init__(params, lr, momentum, weight_decay=weight_decay)
        self._follow(max_norm, warmup, decay_rate, decay_steps, staircase)


class ScheduledAdam(Scheduled, Adam):
    """Adam under the same clipping and schedule (muzero-general's CartPole; EfficientZero-V2 on vectors).

    Args:
        params: parameters or parameter groups.
        lr: learning rate before the schedule.
        weight_decay: L2, added to the gradient.
        max_norm: see :class:`ScheduledSGD`, like all below.
        warmup: likewise.
        decay_rate: likewise.
        decay_steps: likewise.
        staircase: likewise.

    Raises:
        ValueError: if a number is out of range.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 3e-4,
        *,
        weight_decay: float = 0.0,
        max_norm: float | None = None,
        warmup: int = 0,
        decay_rate: float = 1.0,
        decay_steps: int = 0,
        staircase: bool = False,
    ) -> None:
        super().__init__(params, lr, weight_decay=weight_decay)
        self._follow(max_norm, warmup, decay_rate, decay_steps, staircase)
