"""TD-MPC2 as a whole agent (Hansen et al., TD-MPC2: Scalable, Robust World Models for Continuous Control, 2024)."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from wmcomponents.agents.planners import tdmpc2_mppi
from wmcomponents.agents.planning_agent import PlanningAgent
from wmcomponents.agents.schedule import Schedule
from wmcomponents.agents.whole_agent import AgentConfig, WholeAgent
from wmcomponents.models import TDMPC2, TDMPC2Config
from wmcomponents.world_model import CapabilityError, Needs, WorldModel


class TDMPC2Agent(WholeAgent):
    """Plans with policy proposals and a terminal value; model, value functions and policy prior learn from sequences.

    One update trains all of them in the authors' order (``TDMPC2Loss.phase``): the prior is part of the model, as its
    value targets ask it; what acts is the planner. Observations are vectors or images; an environment that observes
    ``task`` has several tasks (:meth:`multitask`).

    Discounts follow from ``episode_lengths``, the agent's steps in an episode: 500 unless ``changes`` say otherwise.

    Example:
        >>> agent = TDMPC2Agent.tiny("Pendulum-v1", changes={"prefill": 20, "pretrain": 1}, progress=False)
        >>> agent.train(22)["model/loss_reward"] > 0
        True
    """

    needs: ClassVar[Needs] = Needs(("reward", "value"))
    model_class: ClassVar[Any] = TDMPC2

    @classmethod
    def tiny_config(cls, **changes: Any) -> AgentConfig:
        """Minutes on a CPU: a small model, and plans of few candidates.

        Args:
            **changes: see :meth:`AgentConfig.vary`.
        """
        model = TDMPC2Config.tiny(latent=64, horizon=3, rho=0.7, reward_scale=0.1)
        behaviour = {"candidates": 64, "proposals": 16, "elites": 8, "budget": 3}
        times = Schedule(prefill=1000, pretrain=500, updates_per_step=0.5, steps_between=2)
        sizes = {"batch_size": 64, "sequence_length": 3, "capacity": 100_000, "lr": 1e-3}
        return AgentConfig(model, behaviour, schedule=times, **sizes).vary(**changes)

    @classmethod
    def size1(cls, env: Any, *, changes: Mapping[str, Any] | None = None, **options: Any) -> "TDMPC2Agent":
        """The paper's agent with 1M parameters (this and all below: 2,500 random steps, then an update a step).

        Args:
            env: see the class.
            changes: numbers by name, such as ``{"episode_lengths": (1000,), "prefill": 5000, "pretrain": 5000}``: the
                paper takes five episodes, and at least 1,000 steps, at random.
            **options: of the class.
        """
        return cls._of(TDMPC2Config.size1(), env, changes, options)

    @classmethod
    def size5(cls, env: Any, *, changes: Mapping[str, Any] | None = None, **options: Any) -> "TDMPC2Agent":
        """5M parameters: the paper's for one task.

        Args:
            env: see the class.
            changes: numbers by name.
            **options: of the class.
        """
        return cls._of(TDMPC2Config.size5(), env, changes, options)

    @classmethod
    def size19(cls, env: Any, *, changes: Mapping[str, Any] | None = None, **options: Any) -> "TDMPC2Agent":
        """19M parameters.

        Args:
            env: see the class.
            changes: numbers by name.
            **options: of the class.
        """
        return cls._of(TDMPC2Config.size19(), env, changes, options)

    @classmethod
    def size48(cls, env: Any, *, changes: Mapping[str, Any] | None = None, **options: Any) -> "TDMPC2Agent":
        """48M parameters.

        Args:
            env: see the class.
            changes: numbers by name.
            **options: of the class.
        """
        return cls._of(TDMPC2Config.size48(), env, changes, options)

    @classmethod
    def size317(cls, env: Any, *, changes: Mapping[str, Any] | None = None, **options: Any) -> "TDMPC2Agent":
        """317M parameters.

        Args:
            env: see the class.
            changes: numbers by name.
            **options: of the class.
        """
        return cls._of(TDMPC2Config.size317(), env, changes, options)

    @classmethod
    def multitask(
        cls,
        env: Any,
        *,
        action_sizes: Sequence[int],
        size: int = 5,
        changes: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> "TDMPC2Agent":
        """The paper's for many tasks, with batches of 1,024.

        Args:
            env: one that observes ``task`` (a choice of n), and pads observations and actions; see the class.
            action_sizes: entries of the action that each task has.
            size: 1, 5, 19, 48 or 317, million parameters.
            changes: numbers by name, such as ``episode_lengths``, of each task.
            **options: of the class.

        Raises:
            ValueError: if there is no such size.
        """
        model = TDMPC2Config.mt30(size, action_sizes, episode_lengths=(500,) * len(action_sizes))
        return cls._of(model, env, {"batch_size": 1024, **(changes or {})}, options)

    @classmethod
    def _preset(cls, model: TDMPC2Config) -> AgentConfig:
        times = Schedule(prefill=2500, pretrain=2500, updates_per_step=1.0)
        return AgentConfig(model, batch_size=256, sequence_length=model.loss.horizon, schedule=times)

    @classmethod
    def _of(
        cls, model: TDMPC2Config, env: Any, changes: Mapping[str, Any] | None, options: Mapping[str, Any]
    ) -> "TDMPC2Agent":
        return cls(env, cls._preset(model).vary(**dict(changes or {})), **options)

    @classmethod
    def behaviour_in(cls, model: WorldModel, *, seed: int = 0, **changes: Any) -> PlanningAgent:
        """The paper's planner in a TD-MPC2.

        Args:
            model: the world model.
            seed: of its plans.
            **changes: of :func:`~wmcomponents.agents.planners.tdmpc2_mppi`, such as ``candidates``.

        Raises:
            CapabilityError: if the model is of another family.
        """
        cls.needs.check(model, cls.__name__)
        if not isinstance(model, TDMPC2):
            raise CapabilityError(
                f"{cls.__name__} asks the policy prior and the value functions of a TDMPC2, and {type(model).__name__} "
                f"has none: plan in it with planners.mppi(model)."
            )
        return PlanningAgent(tdmpc2_mppi(model, seed=seed, **changes))
