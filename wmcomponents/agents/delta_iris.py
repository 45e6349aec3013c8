"""Delta-IRIS as a whole agent (Micheli et al., Efficient World Models with Context-Aware Tokenization, 2024)."""

from collections.abc import Mapping
from typing import Any, ClassVar, cast

from torchrl.envs import EnvBase

from wmcomponents.agents.actor_critic import SharedAdam, delta_iris_loss
from wmcomponents.agents.actor_critic.recurrent_agent import RecurrentAgent
from wmcomponents.agents.epochs import Epochs, EpochSchedule
from wmcomponents.agents.whole_agent import AgentConfig, WholeAgent
from wmcomponents.models import DeltaIRIS, DeltaIRISConfig
from wmcomponents.world_model import Needs, WorldModel


class DeltaIRISAgent(WholeAgent):
    """A tokenizer of changes, a transformer over them, and a recurrent actor-critic with slowly following values.

    The tokenizer learns first, then the transformer takes turns with it, then the behaviour joins; from then on all
    three learn in every epoch.

    Departs from the authors' code in this: the parts take turns from update to update, not in blocks of an epoch; all
    real steps are drawn equally often, not those of episodes that were drawn less; the memory begins with the episode;
    evaluations take the likeliest action.

    Example:
        >>> from wmcomponents.data import make_env
        >>> env = make_env("MinAtar/Breakout-v1", from_pixels=True, image_size=16)
        >>> few = {"prefill": 20, "batch_size": 2, "sequence_length": 6, "behaviour": {"dreams": 2, "horizon": 2}}
        >>> few |= {"tokenizer_steps": 1, "epochs": (Epochs(begin=20, steps=5, updates=2, agent_updates=1),)}
        >>> DeltaIRISAgent.tiny(env, changes=few, progress=False).train(25)["agent/dream_length"] > 0
        True
    """

    needs: ClassVar[Needs] = RecurrentAgent.needs

    @classmethod
    def tiny_config(cls, **changes: Any) -> AgentConfig:
        """For images of 16 or 32 pixels a side: half an hour of one thread of a CPU. Not a scaled-down paper.

        Args:
            **changes: see :meth:`AgentConfig.vary`.
        """
        model = DeltaIRISConfig.tiny(tokenizer_steps=400, tokenizer_every=3)
        behaviour = {
            "units": 128, "mults": (1,), "dreams": 16, "entropy_scale": 1e-2, "discount": 0.985, "horizon": 15,
            "optimizer": SharedAdam(1e-3, 10.0, warmup=20),
        }  # fmt: skip
        first, often = Epochs(0, 2000, updates=700), Epochs(2000, 100, updates=6, agent_updates=6)
        seldom = Epochs(10_000, 400, updates=4, agent_updates=6)
        times = EpochSchedule(prefill=2000, epochs=(first, often, seldom))
        sizes: Any = {"batch_size": 16, "sequence_length": 16, "capacity": 100_000}
        return AgentConfig(model, behaviour, schedule=times, **sizes).vary(**changes)

    @classmethod
    def atari(cls, env: Any, *, changes: Mapping[str, Any] | None = None, **options: Any) -> "DeltaIRISAgent":
        """The paper's for Atari 100k: about a day on a GPU.

        Args:
            env: see the class; ``data.make_env("ALE/Pong-v5", image_size=64, sticky_actions=0.0)``.
            changes: numbers by name.
            **options: of the class.
        """
        return cls(env, cls.atari_config(**dict(changes or {})), **options)

    @classmethod
    def atari_config(cls, **changes: Any) -> AgentConfig:
        """The numbers of :meth:`atari`: epochs of 200 real steps behind 2,000 random ones.

        Args:
            **changes: see :meth:`AgentConfig.vary`.
        """
        tokenizer, transformer = Epochs(2800, 200, updates=120), Epochs(11_800, 200, updates=240)
        behaviour = Epochs(16_800, 200, updates=240, agent_updates=200)
        times = EpochSchedule(
            prefill=2000, epochs=(tokenizer, transformer, behaviour), last_step=100_000, epochs_after=109
        )
        sizes: Any = {"batch_size": 64, "sequence_length": 26, "capacity": 100_000}
        return AgentConfig(DeltaIRISConfig.atari(), {"epsilon": 0.01}, schedule=times, **sizes).vary(**changes)

    def _make_model(self, env: EnvBase) -> WorldModel:
        return cast(Any, DeltaIRIS)(self.config.model, env)

    @classmethod
    def behaviour_in(cls, model: WorldModel, *, seed: int = 0, **changes: Any) -> RecurrentAgent:
        """The paper's actor-critic in any world model that shows one image and predicts rewards.

        Args:
            model: the world model.
            seed: of its dreams.
            **changes: ``delta_iris_loss`` (such as ``units``), ``dreams`` and ``schedule`` of :class:`RecurrentAgent`.
        """
        cls.needs.check(model, cls.__name__)
        own = {name: changes.pop(name) for name in ("dreams", "schedule") if name in changes}
        return RecurrentAgent(delta_iris_loss(model, seed=seed, **changes), **own)
