"""Sizes of an Oasis world, and the numbers of its training."""

from dataclasses import dataclass, field
from typing import Any

from wmcomponents.models.diffusion.diamond.config import RewardEndConfig
from wmcomponents.models.diffusion.forcing_objective import ForcingLossConfig, ForcingOptimizerConfig
from wmcomponents.models.diffusion.forcing_world import ForcingProcessConfig, ForcingSamplingConfig
from wmcomponents.pretrained import ModelConfig


@dataclass(frozen=True)
class ViTAutoencoderConfig:
    """Sizes of the autoencoder.

    Attributes:
        patch: side of a patch of the image, for which there is one latent vector.
        latent: numbers of a latent vector.
        encoder: (size of a token, blocks, heads).
        decoder: likewise.
        scale: what latents are taken times before they are frames.
    """

    patch: int = 20
    latent: int = 16
    encoder: tuple[int, int, int] = (1024, 6, 16)
    decoder: tuple[int, int, int] = (1024, 12, 16)
    scale: float = 20.0 / 255.0


@dataclass(frozen=True)
class SpaceTimeDiTConfig:
    """Sizes of the network that denoises.

    Attributes:
        patch: side of a patch of the latent.
        dim: size of a token.
        depth: number of blocks, each over space and over time.
        heads: of each attention.
    """

    patch: int = 2
    dim: int = 1024
    depth: int = 16
    heads: int = 16


@dataclass(frozen=True)
class OasisNetworkConfig:
    """Sizes of the networks, the process and how frames are drawn.

    Attributes:
        frames: of the window, in training and in dreams.
        autoencoder: sizes of what makes latents.
        transformer: sizes of the network that denoises.
        process: levels of noise, and what is predicted.
        sampling: how frames are drawn; ``model.sampling`` may be set later.
        reward_end: sizes of the model of reward and termination, which the published world does not have; ``None`` for
            none.
    """

    frames: int = 32
    autoencoder: ViTAutoencoderConfig = field(default_factory=ViTAutoencoderConfig)
    transformer: SpaceTimeDiTConfig = field(default_factory=SpaceTimeDiTConfig)
    process: ForcingProcessConfig = field(default_factory=ForcingProcessConfig)
    sampling: ForcingSamplingConfig = field(
        default_factory=lambda: ForcingSamplingConfig(steps=10, context="untouched", clip_noise=20.0)
    )
    reward_end: RewardEndConfig | None = None


@dataclass(frozen=True)
class OasisLossConfig(ForcingLossConfig):
    """Numbers of the losses; nothing of the training is published, and these are Diffusion Forcing's.

    Attributes:
        autoencoder_steps: updates of the autoencoder before the network's begin.
        kl_scale: of the divergence of latents from the standard normal, a mean over their numbers.
        worst: factor on the squared error of the autoencoder's worst number of an image, which a mean hardly sees.
    """

    clip_noise: float = 20.0
    autoencoder_steps: int = 20_000
    kl_scale: float = 1e-3
    worst: float = 0.0


@dataclass(frozen=True)
class OasisConfig(ModelConfig):
    """Sizes of an Oasis world and its training; the defaults are those of the published 500M.

    Attributes:
        network: sizes, process and sampling.
        loss: numbers of the losses.
        optimizer: numbers of AdamW.
    """

    network: OasisNetworkConfig = field(default_factory=OasisNetworkConfig)
    loss: OasisLossConfig = field(default_factory=OasisLossConfig)
    optimizer: ForcingOptimizerConfig = field(default_factory=ForcingOptimizerConfig)

    @classmethod
    def tiny(cls, **changes: Any) -> "OasisConfig":
        """For images of 10 to 32 pixels a side on a CPU, with reward and end: minutes, not hours.

        It predicts the frame's latent in place of v, as the other small worlds of films do.
        """
        levels = {"depths": (1, 1), "attends": (False, False)}
        sizes = {
            "frames": 8,
            "autoencoder": ViTAutoencoderConfig(2, 4, (64, 2, 2), (64, 2, 2), 1.0),
            "transformer": SpaceTimeDiTConfig(1, 64, 3, 4),
            "reward_end": RewardEndConfig(hidden=64, cond=32, channels=(8, 16), **levels),
        }
        training = {"lr": 1e-3, "warmup": 100, "autoencoder_steps": 1000}
        return cls().vary(**{**sizes, "target": "clean", "steps": 4, **training, **changes})

    @classmethod
    def oasis_500m(cls, **changes: Any) -> "OasisConfig":
        """The published world: 360 x 640 pixels, Minecraft's 25 actions, no reward, no end."""
        return cls().vary(**changes)
