"""Sizes of a Navigation World Model, and the numbers of its training."""

from dataclasses import dataclass, field
from typing import Any, Literal

from wmcomponents.codecs.motion import MotionName
from wmcomponents.denoisers.cdit import PositionsName
from wmcomponents.denoisers.dit import SIZES
from wmcomponents.functional.diffusion.targets import LevelTargetName
from wmcomponents.models.diffusion.diamond.config import RewardEndConfig
from wmcomponents.models.diffusion.film_objective import ForcingOptimizerConfig
from wmcomponents.pretrained import ModelConfig

SamplerName = Literal["ancestral", "ddim"]

TIME_UNIT = 128.0
"""Frames that the network is told as a time of 1."""


@dataclass(frozen=True)
class ConvAutoencoderConfig:
    """Sizes of the autoencoder.

    Attributes:
        latent: numbers at a place of the latent.
        width: channels of the first level, a multiple of 32.
        mults: of ``width``, one for each level; each level but the first halves height and width.
        blocks: residual blocks at a level.
        scale: what latents are taken times before they are frames.
    """

    latent: int = 4
    width: int = 128
    mults: tuple[int, ...] = (1, 2, 4, 4)
    blocks: int = 2
    scale: float = 0.18215


@dataclass(frozen=True)
class CDiTConfig:
    """Sizes of the network that denoises.

    Attributes:
        patch: side of a patch of the latent.
        dim: size of a token.
        depth: number of blocks.
        heads: of each attention.
        positions: where the learned positions of patches begin: ``"normal"`` as published, or ``"sine"``, from which
            far fewer updates tell places apart.
    """

    patch: int = 2
    dim: int = 1152
    depth: int = 28
    heads: int = 16
    positions: PositionsName = "normal"

    @classmethod
    def named(cls, size: str) -> "CDiTConfig":
        """A size of the paper: S, B, L or XL."""
        return cls(2, *SIZES[size])


@dataclass(frozen=True)
class NWMSamplingConfig:
    """How frames are drawn; ``model.sampling`` may be set later.

    Attributes:
        sampler: ``"ancestral"``, with the variance that the network says, as the paper; or ``"ddim"``, which does with
            few steps.
        steps: from noise to a frame.
        eta: of DDIM, how much of the noise is fresh in each step.
        stride: steps of the environment, all with the same action, that one step of the dream jumps over.
    """

    sampler: SamplerName = "ancestral"
    steps: int = 250
    eta: float = 0.0
    stride: int = 1


@dataclass(frozen=True)
class NWMNetworkConfig:
    """Sizes of the networks, levels of noise and how frames are drawn.

    Attributes:
        context: frames of the past that are looked at, the newest included.
        motion: what several actions come to: ``"pose"`` of steps of a robot (forward, left, turn), ``"sum"`` of others.
        autoencoder: sizes of what makes latents; ``None`` for one that is handed to the model.
        transformer: sizes of the network that denoises.
        levels: of noise, the betas of which rise linearly.
        target: what the network predicts: ``"noise"`` as published, ``"clean"`` (the frame) or ``"v"``.
        sampling: how frames are drawn.
        reward_end: sizes of the model of reward and termination; ``None`` for none, as in the paper.
    """

    context: int = 4
    motion: MotionName = "pose"
    autoencoder: ConvAutoencoderConfig | None = field(default_factory=ConvAutoencoderConfig)
    transformer: CDiTConfig = field(default_factory=CDiTConfig)
    levels: int = 1000
    target: LevelTargetName = "noise"
    sampling: NWMSamplingConfig = field(default_factory=NWMSamplingConfig)
    reward_end: RewardEndConfig | None = None


@dataclass(frozen=True)
class NWMLossConfig:
    """Numbers of the losses.

    Attributes:
        goals: frames that are asked for from each present one.
        reach: how many frames away they lie at most, before or behind it, within the episode.
        autoencoder_steps: updates of the autoencoder before the network's begin; none where one was handed over.
        kl_scale: of the divergence of latents from the standard normal, a mean over their numbers.
        worst: factor on the squared error of the autoencoder's worst number of an image, which a mean hardly sees.
    """

    goals: int = 4
    reach: int = 64
    autoencoder_steps: int = 20_000
    kl_scale: float = 1e-6
    worst: float = 0.0


@dataclass(frozen=True)
class NWMOptimizerConfig(ForcingOptimizerConfig):
    """Numbers of AdamW, with each network's gradient clipped by itself.

    Attributes:
        lr: learning rate.
        weight_decay: of all weights.
        betas: averaging rates.
        warmup: updates over which the rate grows from 0.
        max_norm: largest norm of the gradient.
        reward_max_norm: largest norm of the gradient of the model of reward and end.
    """

    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    warmup: int = 0
    max_norm: float = 10.0


@dataclass(frozen=True)
class NWMConfig(ModelConfig):
    """Sizes of a Navigation World Model and its training; the defaults are those of the published CDiT-XL.

    Attributes:
        network: sizes, levels and sampling.
        loss: numbers of the losses.
        optimizer: numbers of AdamW.
    """

    network: NWMNetworkConfig = field(default_factory=NWMNetworkConfig)
    loss: NWMLossConfig = field(default_factory=NWMLossConfig)
    optimizer: NWMOptimizerConfig = field(default_factory=NWMOptimizerConfig)

    @classmethod
    def tiny(cls, **changes: Any) -> "NWMConfig":
        """For images of 12 to 64 pixels a side, a multiple of 4, and any actions on a CPU: minutes, not hours.

        It predicts the frame's latent, and positions begin as sines: both are learned in far fewer updates so.
        """
        sizes = {
            "motion": "sum",
            "autoencoder": ConvAutoencoderConfig(latent=4, width=32, mults=(1, 2), blocks=1, scale=1.0),
            "transformer": CDiTConfig(2, 64, 3, 4, positions="sine"),
            "target": "clean",
            "sampling": NWMSamplingConfig("ddim", 4),
        }
        training = {"lr": 1e-3, "warmup": 100, "autoencoder_steps": 1000, "kl_scale": 1e-3}
        return cls().vary(**{**sizes, **training, **changes})

    @classmethod
    def cdit_s(cls, **changes: Any) -> "NWMConfig":
        """The paper's smallest, for images of 224 pixels a side."""
        return cls().vary(**{"transformer": CDiTConfig.named("S"), **changes})

    @classmethod
    def cdit_b(cls, **changes: Any) -> "NWMConfig":
        """The paper's B."""
        return cls().vary(**{"transformer": CDiTConfig.named("B"), **changes})

    @classmethod
    def cdit_l(cls, **changes: Any) -> "NWMConfig":
        """The paper's L."""
        return cls().vary(**{"transformer": CDiTConfig.named("L"), **changes})

    @classmethod
    def cdit_xl(cls, **changes: Any) -> "NWMConfig":
        """The published one, of a billion weights."""
        return cls().vary(**changes)
