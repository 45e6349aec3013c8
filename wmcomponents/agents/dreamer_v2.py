"""DreamerV2 as a whole agent (Hafner et al., Mastering Atari with Discrete World Models, 2021)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from wmcomponents.agents.actor_critic import ImaginationAgent, TwoAdams, dreamer_v2_loss
from wmcomponents.agents.schedule import Schedule
from wmcomponents.agents.whole_agent import AgentConfig, WholeAgent
from wmcomponents.models import DreamerV2, DreamerV2Config
from wmcomponents.objectives import PeriodicCopy
from wmcomponents.training import LinearDecay
from wmcomponents.world_model import Needs, WorldModel


class DreamerV2Agent(WholeAgent):
    """Discrete world model; score function for choices, the dream's gradient for numbers; a copied slow critic.

    Example:
        >>> agent = DreamerV2Agent.tiny("CartPole-v1", changes={"prefill": 20, "pretrain": 1}, progress=False)
        >>> agent.train(30)["agent/dream_length"] > 0
        True
    """

    needs: ClassVar[Needs] = Needs(("features", "reward"))
    model_class: ClassVar[Any] = DreamerV2

    @classmethod
    def tiny_config(cls, **changes: Any) -> AgentConfig:
        """Minutes on a CPU.

        Args:
            **changes: see :meth:`AgentConfig.vary`.
        """
        behaviour = {
            "units": 64, "discount": 0.99, "follow": PeriodicCopy(20), "dreams": 128, "entropy_scale": 0.03,
            "optimizer": TwoAdams(1e-3, 3e-3, eps=1e-5, decay=1e-6), "schedule": LinearDecay(2400),
        }  # fmt: skip
        times = Schedule(prefill=500, pretrain=100, updates_per_step=0.2, steps_between=5)
        sizes = {"batch_size": 16, "sequence_length": 16, "capacity": 100_000, "lr": 1e-3, "warmup": 100}
        return AgentConfig(DreamerV2Config.tiny(), behaviour, schedule=times, **sizes).vary(**changes)

    @classmethod
    def atari(cls, env: Any, *, changes: Mapping[str, Any] | None = None, **options: Any) -> "DreamerV2Agent":
        """The paper's for Atari: 50,000 random actions, then an update every 4 actions.

        Args:
            env: see the class.
            changes: numbers by name.
            **options: of the class.
        """
        times = Schedule(prefill=50_000, pretrain=1, updates_per_step=1 / 4, steps_between=4)
        config = AgentConfig(DreamerV2Config.atari(), sequence_length=50, capacity=2_000_000, schedule=times)
        return cls(env, config.vary(**dict(changes or {})), **options)

    @classmethod
    def dmc_vision(cls, env: Any, *, changes: Mapping[str, Any] | None = None, **options: Any) -> "DreamerV2Agent":
        """The paper's code for dm_control from pixels: 1,000 random actions, 100 updates, one every 5 actions.

        Args:
            env: see the class.
            changes: numbers by name.
            **options: of the class.
        """
        times = Schedule(prefill=1000, pretrain=100, updates_per_step=1 / 5, steps_between=5)
        config = AgentConfig(DreamerV2Config.dmc_vision(), sequence_length=50, capacity=2_000_000, schedule=times)
        return cls(env, config.vary(**dict(changes or {})), **options)

    @classmethod
    def behaviour_in(cls, model: WorldModel, *, seed: int = 0, **changes: Any) -> ImaginationAgent:
        """The paper's actor-critic in any world model with features and rewards.

        Args:
            model: the world model.
            seed: of its dreams.
            **changes: ``dreamer_v2_loss`` (such as ``units``), ``dreams`` and ``schedule`` of
                :class:`ImaginationAgent`.
        """
        cls.needs.check(model, cls.__name__)
        given = dict(changes)
        own = {name: given.pop(name) for name in ("dreams", "schedule") if name in given}
        return ImaginationAgent(dreamer_v2_loss(model, seed=seed, **given), **own)
