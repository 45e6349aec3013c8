"""A planner as an agent: it acts by search in its world model, and learns nothing itself."""

from collections.abc import Mapping
from typing import Any

from tensordict.nn import TensorDictSequential

from wmcomponents.agents.agent import LearnsFrom
from wmcomponents.agents.planners import Planner, RecedingHorizon
from wmcomponents.dream.experience import Experience
from wmcomponents.world_model import LatentPolicy, Needs, WorldModel


class PlanningAgent:
    """A :class:`Planner` in a world model; what it does improves as the model does.

    Args:
        planner: the planner, such as ``cem(model)`` or ``tdmpc2_mppi(model)``; or one of which several actions are
            executed before it plans again, ``RecedingHorizon(planner, executed)``.
        sample: draw the filter's z where it acts in reality; the mode otherwise.
        explore: a TensorDict module that changes the planned action in reality, such as TorchRL's
            ``AdditiveGaussianModule`` (PlaNet: a standard deviation of 0.3).

    Example:
        >>> from torchrl.data import Bounded, Composite, Unbounded
        >>> from wmcomponents.agents.planners import tdmpc2_mppi
        >>> from wmcomponents.models import TDMPC2, TDMPC2Config
        >>> model = TDMPC2(TDMPC2Config.tiny(), Composite(observation=Unbounded(4)), Bounded(-1, 1, (2,)))
        >>> PlanningAgent(tdmpc2_mppi(model)).learns_from
        'nothing'
    """

    learns_from: LearnsFrom = "nothing"

    def __init__(self, planner: Planner | RecedingHorizon, *, sample: bool = True, explore: Any = None) -> None:
        self.planner = planner
        self.needs: Needs = planner.needs
        modules: list[Any] = [planner, *([] if explore is None else [explore])]
        self._real_policy = LatentPolicy(
            planner.model, TensorDictSequential(*modules), sample=sample, seed=0, carried=planner.carried_spec()
        )

    @property
    def model(self) -> WorldModel:
        """The world model."""
        return self.planner.model

    @property
    def dream_policy(self) -> Planner | RecedingHorizon:
        """The planner: reads the model's state keys, writes ``action``."""
        return self.planner

    @property
    def real_policy(self) -> LatentPolicy:
        """The planner behind the model's filter."""
        return self._real_policy

    @property
    def dreamed_steps(self) -> int:
        """Steps dreamt in all plans: of every candidate, particle and proposal."""
        return self.planner.dreamed_steps

    def learn(self, experience: Experience) -> dict[str, float]:
        """Nothing to learn.

        Args:
            experience: not read.
        """
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Where the draws of planner and filter are, and the count of dreamt steps."""
        return {
            "planner": self.planner.generator_state(),
            "filter": self._real_policy.generator_state(),
            "dreamed": self.dreamed_steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken."""
        self.planner.set_generator_state(state["planner"])
        self._real_policy.set_generator_state(state["filter"])
        self.planner.dreamed_steps = int(state["dreamed"])
