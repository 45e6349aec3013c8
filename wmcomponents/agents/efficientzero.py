"""EfficientZero as a whole agent (Ye et al., Mastering Atari Games with Limited Data, 2021)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from wmcomponents.agents.schedule import Schedule
from wmcomponents.agents.self_play import SelfPlayAgent
from wmcomponents.agents.self_play_by_name import self_play_in
from wmcomponents.agents.whole_agent import AgentConfig, WholeAgent
from wmcomponents.data import Priorities
from wmcomponents.models import EfficientZero, EfficientZeroConfig
from wmcomponents.world_model import Needs, WorldModel


class EfficientZeroAgent(WholeAgent):
    """MuZero with value prefixes, latents that agree with encoded ones, and old states searched anew all the time.

    Departs from the authors' code in this: old states are searched anew in the sequences that were just learned from,
    and what is found is kept in the replay buffer for when they are drawn again; value targets of old data are not
    shortened; sequences are drawn by priority, and the starts in them at random.

    Example:
        >>> few = {"prefill": 16, "batch_size": 2, "sequence_length": 8, "num_envs": 2, "unroll": 2}
        >>> few["behaviour"] = {"simulations": 2}
        >>> agent = EfficientZeroAgent.tiny("CartPole-v1", changes=few, progress=False)
        >>> "model/loss_consistency" in agent.train(32)
        True
    """

    needs: ClassVar[Needs] = SelfPlayAgent.needs
    model_class: ClassVar[Any] = EfficientZero

    @classmethod
    def tiny_config(cls, **changes: Any) -> AgentConfig:
        """Minutes on a CPU: Gumbel's search, which improves the policy with few simulations, in 8 environments at once.

        Args:
            **changes: see :meth:`AgentConfig.vary`.
        """
        # A value is one reward and what a search finds behind it: rewards further on are those of an old policy.
        behaviour = {"search": "unscaled_gumbel", "simulations": 16, "prior_share": 0.8, "keep_values": True}
        model = EfficientZeroConfig.tiny(
            discount=0.98, unroll=5, td_steps=1, starts=8, target_interval=20, by_bounds=True,
            decay_rate=0.5, decay_steps=1000,
        )  # fmt: skip
        times = Schedule(prefill=400, pretrain=50, updates_per_step=0.5, steps_between=8)
        sizes = {"batch_size": 16, "sequence_length": 24, "capacity": 100_000, "lr": 1e-3, "num_envs": 8}
        return AgentConfig(model, behaviour, schedule=times, **sizes).vary(**changes)

    @classmethod
    def atari(cls, env: Any, *, changes: Mapping[str, Any] | None = None, **options: Any) -> "EfficientZeroAgent":
        """The paper's agent for Atari-100k: an update for each step of the agent, 50 simulations, priorities.

        Args:
            env: see the class.
            changes: numbers by name.
            **options: of the class.
        """
        temperature = {0: 1.0, 50_000: 0.5, 75_000: 0.25}
        behaviour = {"simulations": 50, "temperature": temperature}
        sizes = {"batch_size": 256, "sequence_length": 14, "capacity": 100_000, "num_envs": 4}
        config = AgentConfig(
            EfficientZeroConfig.atari(), behaviour, schedule=Schedule(prefill=2000, updates_per_step=1.0),
            priorities=Priorities(0.6, 0.4, annealing=120_000), **sizes,
        )  # fmt: skip
        return cls(env, config.vary(**dict(changes or {})), **options)

    @classmethod
    def behaviour_in(cls, model: WorldModel, *, seed: int = 0, **changes: Any) -> SelfPlayAgent:
        """The paper's search and what it learns from it, in any value-equivalent world model.

        Values are bootstrapped from the target network, not from the searches.

        Args:
            model: the world model.
            seed: of what is drawn.
            **changes: as in :meth:`MuZeroAgent.behaviour_in`.
        """
        return self_play_in(model, seed=seed, usual="efficientzero", **{"keep_values": False, **changes})
