"""Delta-IRIS as a whole agent (Micheli et al., Efficient World Models with Context-Aware Tokenization, 2024)."""

from typing import Any, ClassVar

from wmcomponents.agents.actor_critic import SharedAdam, delta_iris_loss
from wmcomponents.agents.epochs import Epochs, EpochSchedule
from wmcomponents.agents.frame_agent import FrameAgent
from wmcomponents.agents.whole_agent import AgentConfig
from wmcomponents.models import DeltaIRIS, DeltaIRISConfig
from wmcomponents.objectives import ExponentialAverage


class DeltaIRISAgent(FrameAgent):
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

    model_class: ClassVar[Any] = DeltaIRIS
    loss = staticmethod(delta_iris_loss)

    @classmethod
    def tiny_config(cls, **changes: Any) -> AgentConfig:
        """For images of 10 to 32 pixels a side: ten minutes of one thread of a CPU. Not a scaled-down paper.

        MinAtar's Breakout at 10 pixels a side, with one token a step (``benchmarks/agents.py``), it plays five times as
        well as random actions within 8,000 real steps and six minutes (``docs/benchmarks/agents.md``).

        Args:
            **changes: see :meth:`AgentConfig.vary`.
        """
        # A dream reads its own frames again, so that a blurred paddle is lost in a few steps: the tokenizer learns long
        # before the others. A board's next image follows from two or three images.
        model = DeltaIRISConfig.tiny(tokenizer_steps=1000, tokenizer_every=3, layers=2, max_blocks=4)
        # Episodes are short, and a dream that has ended begins anew. The target network follows ten times as fast as
        # the paper's, in a run of hundreds of updates.
        behaviour = {
            "units": 128, "mults": (1,), "dreams": 32, "entropy_scale": 1e-2, "discount": 0.985, "horizon": 15,
            "burn_in": 3, "context": 4, "ends": "restart", "follow": ExponentialAverage(0.05),
            "optimizer": SharedAdam(1e-3, 10.0, warmup=20),
        }  # fmt: skip
        first, often = Epochs(0, 2000, updates=1600), Epochs(2000, 200, updates=12, agent_updates=12)
        times = EpochSchedule(prefill=2000, epochs=(first, often))
        sizes: Any = {"batch_size": 32, "sequence_length": 8, "capacity": 100_000}
        return AgentConfig(model, behaviour, schedule=times, **sizes).vary(**changes)

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
