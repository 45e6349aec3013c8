"""IRIS as a whole agent (Micheli et al., Transformers are Sample-Efficient World Models, 2023)."""

from typing import Any, ClassVar

from wmcomponents.agents.actor_critic import SharedAdam, iris_loss
from wmcomponents.agents.epochs import Epochs, EpochSchedule
from wmcomponents.agents.frame_agent import FrameAgent
from wmcomponents.agents.whole_agent import AgentConfig
from wmcomponents.models import IRIS, IRISConfig


class IRISAgent(FrameAgent):
    """A tokenizer, a transformer over its tokens, and a recurrent actor-critic in their dreams: one joins the other.

    The tokenizer learns first, then the transformer takes turns with it, then the behaviour joins; from then on all
    three learn in every epoch.

    Departs from the authors' code in this: the parts take turns from update to update, not in blocks of an epoch; the
    same sequences, of 20 steps, are drawn for all of them, so that the memory reads up to 19 frames before a dream;
    evaluations take the likeliest action.

    Example:
        >>> from wmcomponents.data import make_env
        >>> env = make_env("MinAtar/Breakout-v1", from_pixels=True, image_size=16)
        >>> few = {"prefill": 20, "batch_size": 2, "sequence_length": 6, "behaviour": {"dreams": 2, "horizon": 2}}
        >>> few |= {"tokenizer_steps": 1, "epochs": (Epochs(begin=20, steps=5, updates=2, agent_updates=1),)}
        >>> IRISAgent.tiny(env, changes=few, progress=False).train(25)["agent/dream_length"] > 0
        True
    """

    model_class: ClassVar[Any] = IRIS
    loss = staticmethod(iris_loss)

    @classmethod
    def tiny_config(cls, **changes: Any) -> AgentConfig:
        """For small images, on one thread of a CPU. Not a scaled-down paper.

        A token should stand for 2x2 pixels where things are one pixel large: ``grid=5`` for images of 10 a side. On
        MinAtar's Breakout it has not been seen to learn (``docs/benchmarks/agents.md``).

        Args:
            **changes: see :meth:`AgentConfig.vary`.
        """
        # A paddle or a ball is one pixel, and of a mean over all of them a share too small for the codes to keep it:
        # the errors of an image count thirty times. Few codes are easier to foretell than many, and codes that keep
        # their meaning than those that change it: the tokenizer all but rests once the transformer learns.
        seen = {"absolute": 1.0, "squared": 30.0, "worst": 0.3, "blocks": 0, "vocabulary": 32, "revival": 200}
        model = IRISConfig.tiny(tokenizer_steps=400, tokenizer_every=20, max_frames=4, **seen)
        # Episodes are short: what a dream tells behind its end is of no use, so that it begins anew there.
        behaviour = {
            "units": 128, "channels": (16,), "coarsest": 8, "dreams": 32, "entropy_scale": 1e-2, "discount": 0.985,
            "horizon": 10, "burn_in": 3, "ends": "restart", "optimizer": SharedAdam(1e-3, 10.0, warmup=20),
        }  # fmt: skip
        first, often = Epochs(0, 3000, updates=2600), Epochs(3000, 200, updates=16, agent_updates=10)
        times = EpochSchedule(prefill=3000, epochs=(first, often))
        sizes: Any = {"batch_size": 16, "sequence_length": 8, "capacity": 100_000}
        return AgentConfig(model, behaviour, schedule=times, **sizes).vary(**changes)

    @classmethod
    def atari_config(cls, **changes: Any) -> AgentConfig:
        """The numbers of :meth:`atari`: epochs of 200 real steps, and of 200 updates of each part that has begun.

        Args:
            **changes: see :meth:`AgentConfig.vary`.
        """
        tokenizer, transformer = Epochs(1000, 200, updates=200), Epochs(5000, 200, updates=400)
        behaviour = Epochs(10_000, 200, updates=400, agent_updates=200)
        times = EpochSchedule(
            prefill=0, epochs=(tokenizer, transformer, behaviour), last_step=100_000, epochs_after=100
        )
        sizes: Any = {"batch_size": 64, "sequence_length": 20, "capacity": 100_000}
        return AgentConfig(IRISConfig.atari(), {"epsilon": 0.01}, schedule=times, **sizes).vary(**changes)
