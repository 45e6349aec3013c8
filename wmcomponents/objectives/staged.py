"""What losses share whose parts are trained one after the other."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, cast

from wmcomponents.objectives.model_loss import M, ModelLoss


class StagedModelLoss(ModelLoss[M]):
    """Base of losses whose parts are trained one after the other: what a call returns depends on the stage.

    A family names its ``stages`` and writes :meth:`stage_at`, a function of the step alone, so that a resumed run is in
    the right stage. What :meth:`stage_at` reads is set before this constructor is called.

    Args:
        world_model: the model to train.
        **options: of :class:`ModelLoss`.
    """

    stages: ClassVar[tuple[str, ...]]

    def __init__(self, world_model: M, **options: Any) -> None:
        self._stage = self.stage_at(0)
        super().__init__(world_model, **options)

    @abstractmethod
    def stage_at(self, step: int) -> str:
        """The stage of a step, from 0."""

    @property
    @abstractmethod
    def stage_steps(self) -> tuple[int, ...]:
        """Updates of each stage but the last before the next one begins, in the order of ``stages``."""

    @stage_steps.setter
    @abstractmethod
    def stage_steps(self, steps: tuple[int, ...]) -> None:
        """Plan anew."""

    def plan(self, steps: Mapping[str, int]) -> int:
        """Give each stage its number of updates.

        Args:
            steps: updates by stage, all of them named. Where a stage comes back in later ones, as a tokenizer does,
                those updates count for the later stage.

        Returns:
            The updates in all.

        Raises:
            ValueError: if the stages are others, or a count is below 0.
        """
        if set(steps) != set(self.stages) or any(type(count) is not int or count < 0 for count in steps.values()):
            raise ValueError(
                f"steps of {type(self).__name__} are named for each of its stages ({', '.join(self.stages)}), with a "
                f"count of at least 0; got {dict(steps)}."
            )
        self.stage_steps = tuple(steps[stage] for stage in self.stages[:-1])
        return sum(steps.values())

    def unreached(self, steps: int) -> list[str]:
        """The stages that do not begin within so many updates in all."""
        begins = [sum(self.stage_steps[:place]) for place in range(len(self.stages))]
        return [stage for stage, begin in zip(self.stages, begins, strict=True) if begin >= steps]

    @property
    def stage(self) -> str:
        """What a call trains now, one of ``stages``; may be set.

        Raises:
            ValueError: when set to anything else.
        """
        return self._stage

    @stage.setter
    def stage(self, value: str) -> None:
        if value not in self.stages:
            raise ValueError(f"the stages are {' and '.join(map(repr, self.stages))}; got {value!r}.")
        if value != self._stage:
            self._stage = value
            self.out_keys = cast(Any, self._written())

    def before_update(self, step: int) -> None:
        """Enter the stage of this step."""
        self.stage = self.stage_at(step)
