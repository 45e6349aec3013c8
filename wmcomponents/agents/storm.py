"""STORM as a whole agent (Zhang et al., Efficient Stochastic Transformer based World Models, 2023)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from wmcomponents.agents.actor_critic import FutureReturn, ImaginationAgent, OneAdam, storm_loss
from wmcomponents.agents.schedule import Schedule
from wmcomponents.agents.whole_agent import AgentConfig, WholeAgent
from wmcomponents.models import STORM, STORMConfig
from wmcomponents.training import LinearDecay
from wmcomponents.world_model import Needs, WorldModel


class STORMAgent(WholeAgent):
    """A transformer over mixed tokens, and an actor-critic in its dreams from every real step.

    Departs from the authors' code in this: in reality the policy reads the latent of the observation at hand, not the
    prior's guess of it; dreams begin in the filter's states along the sequences that the model has just learned from,
    not behind eight steps of others; they are worth what the probability of going on says, which the authors round.

    Example:
        >>> agent = STORMAgent.tiny("CartPole-v1", changes={"prefill": 20, "pretrain": 1}, progress=False)
        >>> sorted(agent.train(30))[:2]
        ['agent/dream_length', 'agent/entropy']
    """

    needs: ClassVar[Needs] = Needs(("features", "reward"))
    model_class: ClassVar[Any] = STORM

    @classmethod
    def tiny_config(cls, **changes: Any) -> AgentConfig:
        """Minutes on a CPU: DreamerV3's returns, and a critic that learns three times as fast as the actor.

        Args:
            **changes: see :meth:`AgentConfig.vary`.
        """
        behaviour = {
            "units": 64, "discount": 0.99, "slow_scale": 0.0, "follow": None, "dreams": 128, "targets": FutureReturn(),
            "optimizer": OneAdam(1e-3, warmup=50, critic_lr=3e-3), "schedule": LinearDecay(2400),
        }  # fmt: skip
        times = Schedule(prefill=500, pretrain=100, updates_per_step=0.2, steps_between=5)
        sizes: Any = {"batch_size": 16, "sequence_length": 16, "capacity": 100_000, "lr": 3e-3}
        return AgentConfig(STORMConfig.tiny(), behaviour, schedule=times, **sizes).vary(**changes)

    @classmethod
    def atari(cls, env: Any, *, changes: Mapping[str, Any] | None = None, **options: Any) -> "STORMAgent":
        """The paper's for Atari 100k: an update of model and behaviour for each of 102,000 real steps; hours on a GPU.

        Args:
            env: see the class; ``data.make_env("ALE/Pong-v5", image_size=64, sticky_actions=0.0)``.
            changes: numbers by name.
            **options: of the class.
        """
        times = Schedule(prefill=1024, updates_per_step=1.0)
        config = AgentConfig(STORMConfig.atari(), {"dreams": 1024}, capacity=100_000, schedule=times)
        return cls(env, config.vary(**dict(changes or {})), **options)

    @classmethod
    def behaviour_in(cls, model: WorldModel, *, seed: int = 0, **changes: Any) -> ImaginationAgent:
        """The paper's actor-critic in any world model with features and rewards.

        Args:
            model: the world model.
            seed: of its dreams.
            **changes: ``storm_loss`` (such as ``units``), ``dreams`` and ``schedule`` of :class:`ImaginationAgent`.
        """
        cls.needs.check(model, cls.__name__)
        given = dict(changes)
        own = {name: given.pop(name) for name in ("dreams", "schedule") if name in given}
        return ImaginationAgent(storm_loss(model, seed=seed, **given), **own)
