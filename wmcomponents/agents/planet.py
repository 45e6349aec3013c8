"""PlaNet as a whole agent (Hafner et al., Learning Latent Dynamics for Planning from Pixels, 2019)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from wmcomponents.agents.exploration import exploration
from wmcomponents.agents.planners import ShiftedPlan, planet_cem
from wmcomponents.agents.planning_agent import PlanningAgent
from wmcomponents.agents.schedule import Schedule
from wmcomponents.agents.whole_agent import AgentConfig, WholeAgent
from wmcomponents.models import PlaNet, PlaNetConfig
from wmcomponents.world_model import Needs, WorldModel


class PlaNetAgent(WholeAgent):
    """Plans by the cross-entropy method in its model and learns nothing else; noise of 0.3 on its numbers.

    Choices, which the paper does not have, are planned with probabilities, and one in ten is taken at random.

    Example:
        >>> behaviour = {"candidates": 20, "elites": 4, "horizon": 3}
        >>> changes = {"prefill": 20, "pretrain": 1, "steps_between": 2, "behaviour": behaviour}
        >>> agent = PlaNetAgent.tiny("Pendulum-v1", changes=changes, progress=False)
        >>> agent.train(24)["model/loss_reward"] > 0
        True
    """

    needs: ClassVar[Needs] = Needs(("reward",))
    model_class: ClassVar[Any] = PlaNet

    @classmethod
    def tiny_config(cls, **changes: Any) -> AgentConfig:
        """Minutes on a CPU: a small model, plans of few candidates, and learning between steps in place of episodes.

        Args:
            **changes: see :meth:`AgentConfig.vary`.
        """
        # Few candidates need the plan of the step before; what z is drawn would decide among them.
        behaviour = {"candidates": 48, "elites": 6, "budget": 4, "warm_start": True, "dreams": "mode"}
        times = Schedule(prefill=1000, pretrain=300, updates_per_step=0.25, steps_between=20)
        sizes = {"batch_size": 16, "sequence_length": 16, "capacity": 100_000, "lr": 1e-3, "warmup": 100}
        return AgentConfig(PlaNetConfig.tiny(), behaviour, schedule=times, **sizes).vary(**changes)

    @classmethod
    def official(cls, env: Any, *, changes: Mapping[str, Any] | None = None, **options: Any) -> "PlaNetAgent":
        """The paper's for dm_control from pixels: five random episodes, then 100 updates before each further one.

        Episodes have 250 actions, as with an action repeat of 4; for another repeat R, ``changes`` say
        ``{"prefill": 5000 // R, "steps_between": 1000 // R, "updates_per_step": 0.1 * R}``.

        Args:
            env: see the class.
            changes: numbers by name.
            **options: of the class.
        """
        times = Schedule(prefill=1250, pretrain=100, updates_per_step=100 / 250, steps_between=250)
        config = AgentConfig(PlaNetConfig.official(), batch_size=50, sequence_length=50, schedule=times)
        return cls(env, config.vary(**dict(changes or {})), **options)

    @classmethod
    def behaviour_in(cls, model: WorldModel, *, seed: int = 0, **changes: Any) -> PlanningAgent:
        """The paper's planner, in any world model with rewards.

        Args:
            model: the world model.
            seed: of its plans.
            **changes: of :func:`~wmcomponents.agents.planners.planet_cem`, such as ``candidates``; ``noise``, the
                standard deviation of what is added to numbers in reality, and ``epsilon``, the share of random choices;
                ``warm_start``, whether a plan begins with the one before, shifted by a step (the paper's begins anew);
                ``dreams``, whether plans dream a ``"sample"`` of z, as in the paper, or its ``"mode"``.
        """
        cls.needs.check(model, cls.__name__)
        given = dict(changes)
        explore = exploration(model.action_spec, given.pop("noise", 0.3), given.pop("epsilon", 0.1))
        given["noise"] = given.pop("dreams", "sample")
        if given.pop("warm_start", False):
            given["warm_start"] = ShiftedPlan()
        return PlanningAgent(planet_cem(model, seed=seed, **given), explore=explore)
