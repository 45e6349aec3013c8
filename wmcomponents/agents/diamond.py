"""DIAMOND as a whole agent (Alonso et al., Diffusion for World Modeling: Visual Details Matter in Atari, 2024)."""

from typing import Any, ClassVar

from wmcomponents.agents.actor_critic import SharedAdam, diamond_loss
from wmcomponents.agents.epochs import Epochs, EpochSchedule
from wmcomponents.agents.frame_agent import FrameAgent
from wmcomponents.agents.whole_agent import AgentConfig
from wmcomponents.functional.edm_sampler import EDMSampler
from wmcomponents.models import Diamond, DiamondConfig, NoiseLevelConfig


class DiamondAgent(FrameAgent):
    """A diffusion world model of frames, and a recurrent actor-critic in its dreams of 15 steps.

    The denoiser and the model of reward and termination share nothing, so that one update steps both, each with its
    own clipping; the behaviour's follow as the timetable says.

    Departs from the authors' code in this: sequences are drawn evenly from all real steps, not 70 percent of them from
    the newest quarter of the episodes; random actions do not go on until ten rewards were seen; evaluations take the
    likeliest action.

    Example:
        >>> from wmcomponents.data import make_env
        >>> env = make_env("MinAtar/Breakout-v1", from_pixels=True, image_size=16)
        >>> few = {"prefill": 20, "batch_size": 2, "sequence_length": 6, "behaviour": {"dreams": 2, "horizon": 2}}
        >>> few["epochs"] = (Epochs(begin=20, steps=5, updates=1, agent_updates=1),)
        >>> DiamondAgent.tiny(env, changes=few, progress=False).train(25)["agent/dream_length"] > 0
        True
    """

    model_class: ClassVar[Any] = Diamond
    loss = staticmethod(diamond_loss)

    @classmethod
    def tiny_config(cls, **changes: Any) -> AgentConfig:
        """For images of 10 to 32 pixels a side: a quarter of an hour of one thread of a CPU. Not a scaled-down paper.

        Args:
            **changes: see :meth:`AgentConfig.vary`.
        """
        # One denoising step errs no more than three where a board's next image is all but certain, and takes a third
        # of the time; the noise of training is that of this step. A shallow encoder keeps each cell apart, and learns
        # in hundreds of updates.
        noise = NoiseLevelConfig(loc=1.0, scale=0.8)
        model = DiamondConfig.tiny(sampler=EDMSampler(steps=1), noise=noise, segments=4, reward_steps=8)
        behaviour = {
            "units": 128, "channels": (16,), "coarsest": 5, "dreams": 32, "entropy_scale": 1e-2,
            "optimizer": SharedAdam(1e-3, 100.0, warmup=20),
        }  # fmt: skip
        first, often = Epochs(0, 4000, updates=400), Epochs(4000, 100, updates=4, agent_updates=8)
        seldom = Epochs(12_000, 500, updates=6, agent_updates=10)
        times = EpochSchedule(prefill=4000, epochs=(first, often, seldom))
        sizes: Any = {"batch_size": 16, "sequence_length": 16, "capacity": 100_000}
        return AgentConfig(model, behaviour, schedule=times, **sizes).vary(**changes)

    @classmethod
    def atari_config(cls, **changes: Any) -> AgentConfig:
        """The numbers of :meth:`atari`: 5,000 random steps and a long first epoch, then 400 updates behind 100 steps.

        Args:
            **changes: see :meth:`AgentConfig.vary`.
        """
        first, others = Epochs(0, 5000, updates=10_000, agent_updates=5000), Epochs(5000, 100, 400, agent_updates=400)
        times = EpochSchedule(prefill=5000, epochs=(first, others), last_step=100_000, epochs_after=50)
        model = DiamondConfig.atari(segments=1, reward_windows=1)
        sizes: Any = {"batch_size": 32, "sequence_length": 18, "capacity": 100_000}
        return AgentConfig(model, {"epsilon": 0.01}, schedule=times, **sizes).vary(**changes)
