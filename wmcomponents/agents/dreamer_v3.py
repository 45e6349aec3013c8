"""DreamerV3 as a whole agent (Hafner et al., Mastering Diverse Domains through World Models, 2025)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from wmcomponents.agents.actor_critic import ImaginationAgent, OneLaProp, dreamer_v3_loss
from wmcomponents.agents.schedule import Schedule
from wmcomponents.agents.whole_agent import AgentConfig, WholeAgent
from wmcomponents.models import DreamerV3, DreamerV3Config
from wmcomponents.training import LinearDecay
from wmcomponents.world_model import Needs, WorldModel

ATARI_100K, USUAL = 128 / 1024, 32 / 1024
"""Updates for each action, at train ratios of 128 (paper's Atari 100k) and 32 (its code's default), B x T = 1024."""


class DreamerV3Agent(WholeAgent):
    """World model, REINFORCE in its dreams from every real step, percentile-normalised returns, replay value loss.

    Departs from the authors' code in this: the world model and the behaviour are stepped by an optimiser each (the
    same steps, as LaProp works weight by weight and clips tensor by tensor), the replay value loss has no gradient into
    the world model, and sequences begin from the initial state rather than from stored latents.

    Example:
        >>> agent = DreamerV3Agent.tiny("CartPole-v1", changes={"prefill": 20, "pretrain": 1}, progress=False)
        >>> sorted(agent.train(30))[:2]
        ['agent/dream_length', 'agent/entropy']
    """

    needs: ClassVar[Needs] = Needs(("features", "reward"))
    model_class: ClassVar[Any] = DreamerV3

    @classmethod
    def tiny_config(cls, **changes: Any) -> AgentConfig:
        """Minutes on a CPU: a critic that learns three times as fast as the actor, without a slow one, both annealed.

        With the paper's slow critic and equal rates, values lag behind by a half after a thousand updates.

        Args:
            **changes: see :meth:`AgentConfig.vary`.
        """
        behaviour = {
            "units": 64, "discount": 0.99, "slow_scale": 0.0, "follow": None, "dreams": 128, "replay_scale": 0.0,
            "optimizer": OneLaProp(1e-3, warmup=50, critic_lr=3e-3), "schedule": LinearDecay(2400),
        }  # fmt: skip
        times = Schedule(prefill=500, pretrain=100, updates_per_step=0.2, steps_between=5)
        sizes = {"batch_size": 16, "sequence_length": 16, "capacity": 100_000, "lr": 1e-3, "warmup": 100}
        return AgentConfig(DreamerV3Config.tiny(), behaviour, schedule=times, **sizes).vary(**changes)

    @classmethod
    def _preset(cls, model: DreamerV3Config, units: int) -> AgentConfig:
        times = Schedule(prefill=1024, updates_per_step=USUAL)
        return AgentConfig(model, {"units": units}, capacity=5_000_000, schedule=times)

    @classmethod
    def size1m(cls, env: Any, *, changes: Mapping[str, Any] | None = None, **options: Any) -> "DreamerV3Agent":
        """The paper's agent with 0.7M parameters, at a train ratio of 32.

        Args:
            env: see the class.
            changes: numbers by name, such as ``{"updates_per_step": ATARI_100K, "capacity": 100_000}``.
            **options: of the class.
        """
        return cls(env, cls._preset(DreamerV3Config.size1m(), 64).vary(**dict(changes or {})), **options)

    @classmethod
    def size12m(cls, env: Any, *, changes: Mapping[str, Any] | None = None, **options: Any) -> "DreamerV3Agent":
        """The paper's agent with 10.5M parameters, at a train ratio of 32.

        Args:
            env: see the class.
            changes: numbers by name.
            **options: of the class.
        """
        return cls(env, cls._preset(DreamerV3Config.size12m(), 256).vary(**dict(changes or {})), **options)

    @classmethod
    def size25m(cls, env: Any, *, changes: Mapping[str, Any] | None = None, **options: Any) -> "DreamerV3Agent":
        """The paper's agent with 23.5M parameters.

        Args:
            env: see the class.
            changes: numbers by name.
            **options: of the class.
        """
        return cls(env, cls._preset(DreamerV3Config.size25m(), 384).vary(**dict(changes or {})), **options)

    @classmethod
    def size200m(cls, env: Any, *, changes: Mapping[str, Any] | None = None, **options: Any) -> "DreamerV3Agent":
        """The paper's agent with 200M parameters.

        Args:
            env: see the class.
            changes: numbers by name.
            **options: of the class.
        """
        return cls(env, cls._preset(DreamerV3Config.size200m(), 1024).vary(**dict(changes or {})), **options)

    @classmethod
    def behaviour_in(cls, model: WorldModel, *, seed: int = 0, **changes: Any) -> ImaginationAgent:
        """The paper's actor-critic in any world model with features and rewards.

        Args:
            model: the world model.
            seed: of its dreams.
            **changes: ``dreamer_v3_loss`` (such as ``units``), ``replay_scale``, ``dreams`` and ``schedule`` of
                :class:`ImaginationAgent`.
        """
        cls.needs.check(model, cls.__name__)
        given = dict(changes)
        own = {name: given.pop(name) for name in ("dreams", "schedule") if name in given}
        scale = given.pop("replay_scale", 0.3)
        return ImaginationAgent(dreamer_v3_loss(model, seed=seed, **given), replay_scale=scale, **own)
