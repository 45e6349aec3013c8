"""DreamerV3's preprint as a whole agent (Hafner et al., Mastering Diverse Domains through World Models, 2023)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from wmcomponents.agents.actor_critic import ImaginationAgent, TwoAdams, dreamer_v3_preprint_loss
from wmcomponents.agents.schedule import Schedule
from wmcomponents.agents.whole_agent import AgentConfig, WholeAgent
from wmcomponents.models import DreamerV3Preprint, DreamerV3PreprintConfig
from wmcomponents.training import LinearDecay
from wmcomponents.world_model import Needs, WorldModel

UPDATED_EACH_ACTION, USUAL = 1024 / 1024, 64 / 1024
"""Updates for each action, at train ratios of 1024 (Atari 100k) and 64 (Atari), B x T = 1024."""


class DreamerV3PreprintAgent(WholeAgent):
    """DreamerV3 as of January 2023: numbers learn through the dream, and there is no replay value loss.

    Example:
        >>> few = {"prefill": 20, "pretrain": 1}
        >>> agent = DreamerV3PreprintAgent.tiny("CartPole-v1", changes=few, progress=False)
        >>> agent.train(30)["agent/dream_length"] > 0
        True
    """

    needs: ClassVar[Needs] = Needs(("features", "reward"))
    model_class: ClassVar[Any] = DreamerV3Preprint

    @classmethod
    def tiny_config(cls, **changes: Any) -> AgentConfig:
        """Minutes on a CPU, with the timetable and the rates of ``DreamerV3Agent.tiny``.

        Args:
            **changes: see :meth:`AgentConfig.vary`.
        """
        behaviour = {
            "units": 64, "discount": 0.99, "slow_scale": 0.0, "follow": None, "dreams": 128,
            "optimizer": TwoAdams(1e-3, 3e-3, eps=1e-5), "schedule": LinearDecay(2400),
        }  # fmt: skip
        times = Schedule(prefill=500, pretrain=100, updates_per_step=0.2, steps_between=5)
        sizes: Any = {"batch_size": 16, "sequence_length": 16, "capacity": 100_000, "lr": 1e-3, "warmup": 100}
        return AgentConfig(DreamerV3PreprintConfig.tiny(), behaviour, schedule=times, **sizes).vary(**changes)

    @classmethod
    def s(cls, env: Any, *, changes: Mapping[str, Any] | None = None, **options: Any) -> "DreamerV3PreprintAgent":
        """The preprint's for Atari 100k: size S, an update after each action.

        Args:
            env: see the class.
            changes: numbers by name.
            **options: of the class.
        """
        times = Schedule(prefill=1024, updates_per_step=UPDATED_EACH_ACTION)
        config = AgentConfig(DreamerV3PreprintConfig.s(), {"units": 512}, schedule=times)
        return cls(env, config.vary(**dict(changes or {})), **options)

    @classmethod
    def xl(cls, env: Any, *, changes: Mapping[str, Any] | None = None, **options: Any) -> "DreamerV3PreprintAgent":
        """The preprint's for Atari: size XL, an update after sixteen actions.

        Args:
            env: see the class.
            changes: numbers by name.
            **options: of the class.
        """
        times = Schedule(prefill=1024, updates_per_step=USUAL)
        config = AgentConfig(DreamerV3PreprintConfig.xl(), {"units": 1024}, schedule=times)
        return cls(env, config.vary(**dict(changes or {})), **options)

    @classmethod
    def behaviour_in(cls, model: WorldModel, *, seed: int = 0, **changes: Any) -> ImaginationAgent:
        """The preprint's actor-critic in any world model with features and rewards.

        Args:
            model: the world model.
            seed: of its dreams.
            **changes: ``dreamer_v3_preprint_loss`` (such as ``units``), ``dreams`` and ``schedule`` of
                :class:`ImaginationAgent`.
        """
        cls.needs.check(model, cls.__name__)
        own = {name: changes.pop(name) for name in ("dreams", "schedule") if name in changes}
        return ImaginationAgent(dreamer_v3_preprint_loss(model, seed=seed, **changes), **own)
