"""Sizes of a Diffusion Forcing world, and the numbers of its training."""

from dataclasses import dataclass, field
from typing import Any

from wmcomponents.models.diffusion.diamond.config import RewardEndConfig
from wmcomponents.models.diffusion.forcing_objective import ForcingLossConfig, ForcingOptimizerConfig
from wmcomponents.models.diffusion.forcing_world import ForcingProcessConfig, ForcingSamplingConfig
from wmcomponents.pretrained import ModelConfig


@dataclass(frozen=True)
class FilmUNetConfig:
    """Sizes of the network.

    Attributes:
        dim: channels of the first convolution.
        multiples: channels of each level, times ``dim``.
        heads: of each attention.
        head_dim: size of a head of the attentions along time.
    """

    dim: int = 64
    multiples: tuple[int, ...] = (1, 2, 4, 8)
    heads: int = 4
    head_dim: int = 64


@dataclass(frozen=True)
class DiffusionForcingNetworkConfig:
    """Sizes of the networks, the process and how frames are drawn.

    Attributes:
        frames: of the window, in training and in dreams.
        patch: side of the squares of pixels that become channels of one place before anything else reads a frame; 1, as
            published, leaves pixels where they are. The network's cost falls with its square. Where these channels are
            more than ``unet.dim``, the network predicts the frame, ``target="clean"``.
        unet: sizes of the network that denoises.
        process: levels of noise, and what is predicted.
        sampling: how frames are drawn; ``model.sampling`` may be set later.
        reward_end: sizes of the model of reward and termination, which the paper's worlds do not have; ``None`` for
            none.
    """

    frames: int = 16
    patch: int = 1
    unet: FilmUNetConfig = field(default_factory=FilmUNetConfig)
    process: ForcingProcessConfig = field(default_factory=ForcingProcessConfig)
    sampling: ForcingSamplingConfig = field(default_factory=ForcingSamplingConfig)
    reward_end: RewardEndConfig | None = None


@dataclass(frozen=True)
class DiffusionForcingConfig(ModelConfig):
    """Sizes of a Diffusion Forcing world and its training; process, sampling and training are the authors' for video.

    Attributes:
        network: sizes, process and sampling.
        loss: numbers of the losses.
        optimizer: numbers of AdamW.
    """

    network: DiffusionForcingNetworkConfig = field(default_factory=DiffusionForcingNetworkConfig)
    loss: ForcingLossConfig = field(default_factory=ForcingLossConfig)
    optimizer: ForcingOptimizerConfig = field(default_factory=ForcingOptimizerConfig)

    @classmethod
    def tiny(cls, **changes: Any) -> "DiffusionForcingConfig":
        """For images of 10 to 32 pixels a side on a CPU, with reward and end: minutes, not hours.

        It predicts the frame, which is learned in far fewer updates than v.
        """
        levels = {"depths": (1, 1), "attends": (False, False)}
        sizes = {
            "frames": 8,
            "unet": FilmUNetConfig(dim=16, multiples=(1, 2), heads=2, head_dim=16),
            "reward_end": RewardEndConfig(hidden=64, cond=32, channels=(8, 16), **levels),
        }
        return cls().vary(**{**sizes, "target": "clean", "steps": 4, "lr": 1e-3, "warmup": 100, **changes})

    @classmethod
    def video(cls, **changes: Any) -> "DiffusionForcingConfig":
        """For video, such as DMLab and Minecraft at 64 or 128 pixels a side: no reward, no end; sizes are ours."""
        return cls().vary(**changes)
