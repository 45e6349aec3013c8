"""How many updates each stage of an objective gets."""

import collections
import warnings
from collections.abc import Mapping

from torch import nn

from wmcomponents._arguments import whole
from wmcomponents.objectives.staged import StagedModelLoss


class UntrainedStageWarning(UserWarning):
    """A stage of the objective does not begin within the steps asked for; what it trains stays as it was."""


def planned(objective: nn.Module, steps: int | Mapping[str, int], *, taken: int) -> int:
    """The steps in all, after the objective's stages were planned anew if they are named.

    Args:
        objective: with stages or without.
        steps: in all; of an objective with stages also by stage.
        taken: steps so far, which a new plan must not contradict.

    Raises:
        TypeError: if the steps are no whole number.
        ValueError: if stages are named that the objective does not have, or the plan contradicts the steps taken; it is
            as before then.

    Warns:
        UntrainedStageWarning: if a stage does not begin within a number of steps.
    """
    if not isinstance(objective, StagedModelLoss):
        if isinstance(steps, Mapping):
            raise ValueError(
                f"{type(objective).__name__} has no stages: steps is a number; got {dict(steps)} by stage."
            )
        return whole("steps", steps, 0, "the number of updates to reach")
    if not isinstance(steps, Mapping):
        steps = whole("steps", steps, 0, "the number of updates to reach")
        _tell_unreached(objective, steps)
        return steps
    before, stages = objective.stage_steps, [objective.stage_at(step) for step in range(taken)]
    total = objective.plan(steps)
    if stages != [objective.stage_at(step) for step in range(taken)]:
        objective.stage_steps = before
        raise ValueError(
            f"{dict(steps)} contradicts the {taken} updates taken so far, of which "
            f"{dict(collections.Counter(stages))} were of each stage: a stage that is over stays as long as it was."
        )
    return total


def _tell_unreached(objective: StagedModelLoss, steps: int) -> None:
    lacking = objective.unreached(steps)
    if lacking:
        warnings.warn(
            f"{steps} updates do not reach {' and '.join(map(repr, lacking))} of {type(objective).__name__}, which "
            f"begins after {sum(objective.stage_steps)}: what it trains stays untrained. Take more steps, or say how "
            f"many each stage gets: train({{{', '.join(f'{stage!r}: ...' for stage in objective.stages)}}}).",
            UntrainedStageWarning,
            stacklevel=4,
        )
