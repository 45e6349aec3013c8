"""`--steps`: updates in all, or of each stage of an objective that has stages."""

from collections.abc import Sequence
from typing import Any

from wmcomponents.cli.errors import UsageError


def steps_of(words: Sequence[str]) -> int | dict[str, int]:
    """A number, or counts by stage from ``stage=count``.

    Raises:
        UsageError: for anything else, or fewer steps than one.
    """
    if len(words) == 1 and "=" not in words[0]:
        steps = _count(words[0])
        if steps < 1:
            raise UsageError(f"--steps is at least 1; got {steps}.")
        return steps
    stages: dict[str, int] = {}
    for word in words:
        name, equals, count = word.partition("=")
        if not equals or not name or name in stages:
            raise UsageError(f"--steps is a number, or stage=count of each stage; got {' '.join(words)!r}.")
        stages[name] = _count(count)
    if sum(stages.values()) < 1:
        raise UsageError(f"--steps are at least 1 in all; got {' '.join(words)!r}.")
    return stages


def check_stages(objective: Any, steps: int | dict[str, int], option: str = "--steps") -> None:
    """Refuse steps that leave a stage untrained without saying so, or name other stages than there are.

    Args:
        objective: with stages or without.
        steps: in all, or by stage.
        option: where the number comes from.

    Raises:
        UsageError: naming the stages and how many steps there must be.
    """
    from wmcomponents.models.ensemble.objective import EnsembleLoss
    from wmcomponents.objectives.staged import StagedModelLoss

    if isinstance(objective, EnsembleLoss):
        if isinstance(steps, dict):
            raise UsageError(f"--steps of an ensemble is a number, spread as its family does; got {_words(steps)!r}.")
        objective = objective.member_losses[0]
        option = f"{option} of an ensemble" if option == "--steps" else option
    if not isinstance(objective, StagedModelLoss):
        if isinstance(steps, dict):
            raise UsageError(f"this family is trained in one stage: --steps is a number; got {_words(steps)!r}.")
        return
    example = " ".join(f"{stage}={count}" for stage, count in zip(objective.stages, (1000, 2000), strict=False))
    if isinstance(steps, dict):
        if set(steps) != set(objective.stages):
            raise UsageError(f"--steps names each stage of this family, such as {example!r}; got {_words(steps)!r}.")
        return
    lacking = objective.unreached(steps)
    if lacking:
        by_stage = f", or give each stage its own: --steps {example}" if option == "--steps" else ""
        raise UsageError(
            f"{option} {steps} would leave the {' and the '.join(lacking)} untrained, whose turn comes after "
            f"{sum(objective.stage_steps)} updates: ask for more{by_stage}."
        )


def _count(text: str) -> int:
    if not text.isascii() or not text.lstrip("-").isdecimal():
        raise UsageError(f"--steps is a number, or stage=count of each stage; got {text!r}.")
    return int(text)


def _words(steps: dict[str, int]) -> str:
    return " ".join(f"{stage}={count}" for stage, count in steps.items())
