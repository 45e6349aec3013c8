"""Dreamer as a whole agent (Hafner et al., Dream to Control, 2020)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from wmcomponents.agents.actor_critic import ImaginationAgent, TwoAdams, dreamer_v1_loss
from wmcomponents.agents.exploration import exploration
from wmcomponents.agents.schedule import Schedule
from wmcomponents.agents.whole_agent import AgentConfig, WholeAgent
from wmcomponents.models import DreamerV1, DreamerV1Config
from wmcomponents.training import LinearDecay
from wmcomponents.world_model import Needs, WorldModel


class DreamerV1Agent(WholeAgent):
    """Values by the return's gradient through the dream; noise of 0.3 on its numbers, one random choice in ten.

    Example:
        >>> agent = DreamerV1Agent.tiny("Pendulum-v1", changes={"prefill": 20, "pretrain": 1}, progress=False)
        >>> agent.train(30)["agent/dream_length"] > 0
        True
    """

    needs: ClassVar[Needs] = Needs(("features", "reward"))
    model_class: ClassVar[Any] = DreamerV1

    @classmethod
    def tiny_config(cls, **changes: Any) -> AgentConfig:
        """Minutes on a CPU: an entropy bonus, on returns in the environment's own units, in place of action noise.

        Without one, an actor on few real steps becomes certain too early.

        Args:
            **changes: see :meth:`AgentConfig.vary`.
        """
        behaviour = {
            "units": 64, "discount": 0.98, "dreams": 128, "noise": 0.0, "entropy_scale": 3.0,
            "optimizer": TwoAdams(1e-3, 3e-3, eps=1e-7), "schedule": LinearDecay(2400, floor=0.2),
        }  # fmt: skip
        times = Schedule(prefill=1000, pretrain=100, updates_per_step=0.2, steps_between=5)
        sizes = {"batch_size": 16, "sequence_length": 16, "capacity": 100_000, "lr": 1e-3, "warmup": 100}
        return AgentConfig(DreamerV1Config.tiny(), behaviour, schedule=times, **sizes).vary(**changes)

    @classmethod
    def official(cls, env: Any, *, changes: Mapping[str, Any] | None = None, **options: Any) -> "DreamerV1Agent":
        """The paper's for dm_control from pixels (action repeat 2): 100 updates after each 500 actions.

        Args:
            env: see the class.
            changes: numbers by name.
            **options: of the class.
        """
        times = Schedule(prefill=2500, pretrain=100, updates_per_step=1 / 5, steps_between=500)
        config = AgentConfig(DreamerV1Config.official(), batch_size=50, sequence_length=50, schedule=times)
        return cls(env, config.vary(**dict(changes or {})), **options)

    @classmethod
    def behaviour_in(cls, model: WorldModel, *, seed: int = 0, **changes: Any) -> ImaginationAgent:
        """The paper's actor-critic in any world model with features and rewards.

        Args:
            model: the world model.
            seed: of its dreams.
            **changes: ``dreamer_v1_loss`` (such as ``units``); ``noise`` of the actions in reality, ``dreams`` and
                ``schedule`` of :class:`ImaginationAgent`.
        """
        cls.needs.check(model, cls.__name__)
        given = dict(changes)
        own = {name: given.pop(name) for name in ("dreams", "schedule") if name in given}
        noise, epsilon = given.pop("noise", 0.3), given.pop("epsilon", 0.1)
        explore = exploration(model.action_spec, noise, epsilon)
        return ImaginationAgent(dreamer_v1_loss(model, seed=seed, **given), explore=explore, **own)
