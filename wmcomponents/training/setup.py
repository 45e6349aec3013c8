"""What a trainer is built of: arguments that are possible, an optimiser, and what decides a run."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import Optimizer

from wmcomponents._arguments import of_kind
from wmcomponents.objectives import ModelLoss
from wmcomponents.optim import LaProp
from wmcomponents.pretrained import PretrainedModule
from wmcomponents.training.optimizer_state import options_of
from wmcomponents.training.schedule import ConstantThenDecay
from wmcomponents.world_model import WorldModel

LEARNING_RATE, WARMUP = 4e-5, 1000
"""Of LaProp, where an objective makes no optimiser of its own: DreamerV3's."""


def check_counts(checkpoint_every: int, log_every: int, accumulate: int, precision: str) -> None:
    """Refuse counts below 1 and an unknown precision.

    Raises:
        ValueError: naming what came.
    """
    if checkpoint_every < 1 or log_every < 1:
        raise ValueError(f"checkpoint_every and log_every are at least 1; got {checkpoint_every}, {log_every}.")
    if accumulate < 1:
        raise ValueError(f"accumulate is at least 1; got {accumulate}.")
    if precision not in ("float32", "bf16"):
        raise ValueError(f"precision is 'float32' or 'bf16'; got {precision!r}.")


def optimizer_of(
    objective: nn.Module, optimizer: Optimizer | None, lr: float | None, warmup: int | None, *, of: str
) -> Optimizer:
    """The optimiser of an objective's parameters.

    Args:
        objective: what is minimised.
        optimizer: the user's own, if there is one.
        lr: learning rate of one that is made here; the paper's if not given.
        warmup: its warm-up steps; the paper's if not given.
        of: the name of what is trained, for the errors.

    Raises:
        TypeError: if the user's is none.
        ValueError: if there is nothing to train, or a number is negative or not finite.
    """
    params = [p for p in objective.parameters() if p.requires_grad]
    if not params:
        raise ValueError(f"{of} has no parameter that requires a gradient: nothing to train.")
    for name, number in (("lr", lr), ("warmup", warmup)):
        if number is not None and not (isinstance(number, (int, float)) and 0 <= number < math.inf):
            raise ValueError(f"{name} is a number of at least 0, or None for the paper's; got {number!r}.")
    if optimizer is not None:
        of_kind("optimizer", optimizer, Optimizer, "an optimiser with the objective's parameters in it")
        return optimizer
    if isinstance(objective, ModelLoss):
        return objective.make_optimizer(lr, warmup)
    return LaProp(params, LEARNING_RATE if lr is None else lr, warmup=WARMUP if warmup is None else warmup)


def settings_of(
    model: WorldModel | PretrainedModule,
    optimizer: Optimizer,
    schedule: Callable[[int], float] | None,
    given: dict[str, Any],
) -> dict[str, Any]:
    """What decides a run beside weights and data, to be compared when it goes on.

    Args:
        model: what is trained; one that was put together by hand has no config.
        optimizer: as it is built.
        schedule: of the learning rate.
        given: arguments that decide too, by name.
    """
    settings = {
        **given,
        "schedule": str(schedule) if isinstance(schedule, ConstantThenDecay) else None,
        "options of the optimizer": options_of(optimizer),
    }
    if isinstance(model, PretrainedModule) and model.config is not None:
        settings["config"] = dataclasses.asdict(model.config)
    return settings
