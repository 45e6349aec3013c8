"""MuZero as a whole agent (Schrittwieser et al., Mastering Atari, Go, Chess and Shogi by Planning, 2020)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from wmcomponents.agents.schedule import Schedule
from wmcomponents.agents.self_play import SelfPlayAgent
from wmcomponents.agents.self_play_by_name import self_play_in
from wmcomponents.agents.whole_agent import AgentConfig, WholeAgent
from wmcomponents.data import Priorities
from wmcomponents.models import MuZero, MuZeroConfig
from wmcomponents.world_model import Needs, WorldModel


class MuZeroAgent(WholeAgent):
    """Acts by tree search in a learned model that knows rewards, values and policies, and learns from what it found.

    Departs from the authors' in this: old states are searched anew in the sequences that were just learned from, and
    what is found is kept in the replay buffer for when they are drawn again.

    Example:
        >>> few = {"prefill": 16, "batch_size": 2, "sequence_length": 8, "num_envs": 2, "unroll": 2}
        >>> agent = MuZeroAgent.tiny("CartPole-v1", changes={**few, "behaviour": {"simulations": 2}}, progress=False)
        >>> "model/loss_policy" in agent.train(32)
        True
    """

    needs: ClassVar[Needs] = SelfPlayAgent.needs
    model_class: ClassVar[Any] = MuZero

    @classmethod
    def tiny_config(cls, **changes: Any) -> AgentConfig:
        """Minutes on a CPU: Gumbel's search, which improves the policy with few simulations, in 8 environments at once.

        Args:
            **changes: see :meth:`AgentConfig.vary`.
        """
        # A value is one reward and what a search finds behind it: rewards further on are those of an old policy.
        behaviour = {"search": "unscaled_gumbel", "simulations": 16, "prior_share": 0.8}
        model = MuZeroConfig.tiny(
            discount=0.98, unroll=5, td_steps=1, starts=8, target_interval=20, by_bounds=True,
            agreement_scale=1.0, decay_rate=0.5, decay_steps=2500,
        )  # fmt: skip
        times = Schedule(prefill=400, pretrain=50, updates_per_step=0.5, steps_between=8)
        sizes = {"batch_size": 16, "sequence_length": 24, "capacity": 100_000, "lr": 1e-3, "num_envs": 8}
        return AgentConfig(model, behaviour, schedule=times, **sizes).vary(**changes)

    @classmethod
    def atari(cls, env: Any, *, changes: Mapping[str, Any] | None = None, **options: Any) -> "MuZeroAgent":
        """muzero-general's numbers for Atari: 50 simulations, 10 steps to the value's target, priorities.

        Args:
            env: see the class.
            changes: numbers by name.
            **options: of the class.
        """
        temperature = {0: 1.0, 500_000: 0.5, 750_000: 0.25}
        behaviour = {"simulations": 50, "alpha": 0.25, "temperature": temperature}
        sizes = {"batch_size": 1024, "sequence_length": 48, "capacity": 1_000_000, "num_envs": 16}
        config = AgentConfig(
            MuZeroConfig.atari(), behaviour, schedule=Schedule(prefill=2000, updates_per_step=0.1),
            priorities=Priorities(1.0, 1.0), **sizes,
        )  # fmt: skip
        return cls(env, config.vary(**dict(changes or {})), **options)

    @classmethod
    def board_game(cls, env: Any, *, changes: Mapping[str, Any] | None = None, **options: Any) -> "MuZeroAgent":
        """Small boards on a CPU, two players who move in turn: values are learned from whole games.

        Args:
            env: of one move a step, without an opponent: ``lambda: make_env(BoardGameEnv(tic_tac_toe()))``.
            changes: numbers by name.
            **options: of the class.
        """
        behaviour = {"search": "unscaled_gumbel", "weight": 5.0, "simulations": 24, "keep_values": False}
        model = MuZeroConfig.tiny(players=2, discount=1.0, unroll=5, td_steps=9, starts=8, support=10)
        sizes = {"batch_size": 16, "sequence_length": 16, "capacity": 100_000, "lr": 2e-3, "num_envs": 32}
        times = Schedule(prefill=1024, pretrain=50, updates_per_step=0.05, steps_between=32)
        config = AgentConfig(model, {**behaviour, "reanalyze": 0.25}, schedule=times, **sizes)
        return cls(env, config.vary(**dict(changes or {})), **options)

    @classmethod
    def behaviour_in(cls, model: WorldModel, *, seed: int = 0, **changes: Any) -> SelfPlayAgent:
        """The paper's search and what it learns from it, in any value-equivalent world model.

        Args:
            model: the world model.
            seed: of what is drawn.
            **changes: ``search`` (a name of :data:`SEARCHES`, or what makes one in a model; where actions are numbers
                it is ``"sampled"`` if not given), ``temperature`` by the
                updates after which it begins (``{0: 1.0, 500_000: 0.5}``), ``reanalyze`` and ``keep_values`` of
                :class:`SelfPlayAgent`; the rest are arguments of the search, such as ``simulations``.

        Raises:
            CapabilityError: if the model is not of MuZero's family.
            ValueError: if there is no search of this name.
        """
        return self_play_in(model, seed=seed, **changes)
