"""Sizes of a DIAMOND and of its parts, and the numbers of their training."""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from wmcomponents.functional.edm_sampler import EDMSampler
from wmcomponents.pretrained import ModelConfig


@dataclass(frozen=True)
class DenoiserConfig:
    """Sizes of a denoiser, and its preconditioning.

    Attributes:
        cond: size of the condition.
        depths: residual blocks of each level.
        channels: channels of each level.
        attends: whether a level's blocks attend.
        sigma_data: standard deviation of the data.
        sigma_offset: standard deviation of the noise that a channel shares.
        noised_context: whether the context carries noise, of which the network is told.
    """

    cond: int = 256
    depths: tuple[int, ...] = (2, 2, 2, 2)
    channels: tuple[int, ...] = (64, 64, 64, 64)
    attends: tuple[bool, ...] = (False, False, False, False)
    sigma_data: float = 0.5
    sigma_offset: float = 0.3
    noised_context: bool = False


@dataclass(frozen=True)
class RewardEndConfig:
    """Sizes of the model of reward and termination.

    Attributes:
        hidden: size of the LSTM's h and c.
        cond: size of the action's embedding.
        depths: residual blocks of each level.
        channels: channels of each level.
        attends: whether a level's blocks attend.
    """

    hidden: int = 512
    cond: int = 128
    depths: tuple[int, ...] = (2, 2, 2, 2)
    channels: tuple[int, ...] = (32, 32, 32, 32)
    attends: tuple[bool, ...] = (False, False, False, False)


@dataclass(frozen=True)
class UpsamplerConfig:
    """A second diffusion model, from small frames to those that the environment shows.

    Attributes:
        factor: sides of a large frame over those of a small one.
        context: past large frames that it sees beside the small one.
        denoiser: its sizes, and its preconditioning.
        sampler: how it is sampled.
    """

    factor: int = 5
    context: int = 1
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    sampler: EDMSampler = field(default_factory=EDMSampler)


@dataclass(frozen=True)
class DiamondNetworkConfig:
    """Sizes of the models, and how frames are drawn.

    Attributes:
        context: past frames and actions that the denoiser sees.
        denoiser: sizes of the denoiser of (small) frames, and its preconditioning.
        sampler: how it is sampled; ``model.sampler`` may be set later.
        reward_end: sizes of the model of reward and termination; ``None`` for none.
        upsampler: a second diffusion model; ``None`` for none.
    """

    context: int = 4
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    sampler: EDMSampler = field(default_factory=EDMSampler)
    reward_end: RewardEndConfig | None = field(default_factory=RewardEndConfig)
    upsampler: UpsamplerConfig | None = None


@dataclass(frozen=True)
class NoiseLevelConfig:
    """Noise levels of training: log-normal, cut off at both ends.

    Attributes:
        loc: mean of the logarithm.
        scale: standard deviation of the logarithm.
        sigma_min: smallest level.
        sigma_max: largest level.
    """

    loc: float = -0.4
    scale: float = 1.2
    sigma_min: float = 0.002
    sigma_max: float = 20.0


@dataclass(frozen=True)
class DiamondLossConfig:
    """Windows and noise of training.

    Attributes:
        segments: windows of each training sequence for the denoisers, drawn anew; the paper has single segments.
        autoregressive: targets of the denoiser on frames of its own after the first.
        noise: noise levels of the denoiser.
        reward_steps: transitions in a window for reward and end, the memory being zero at its start; all of the
            sequence where that is shorter.
        reward_windows: windows of each training sequence for reward and end.
        upsampler_autoregressive: targets of the upsampler on frames of its own after the first.
        upsampler_noise: noise levels of the upsampler.
    """

    segments: int = 2
    autoregressive: int = 1
    noise: NoiseLevelConfig = field(default_factory=NoiseLevelConfig)
    reward_steps: int = 18
    reward_windows: int = 2
    upsampler_autoregressive: int = 1
    upsampler_noise: NoiseLevelConfig = field(default_factory=NoiseLevelConfig)


@dataclass(frozen=True)
class DiamondOptimizerConfig:
    """AdamW, with each model's gradient clipped by itself.

    Attributes:
        lr: learning rate.
        weight_decay: decay of the weights of linear, convolutional and recurrent layers.
        warmup: steps over which the rate grows from 0.
        max_norm: largest norm of a denoiser's gradient.
        reward_max_norm: largest norm of the gradient of the model of reward and termination.
    """

    lr: float = 1e-4
    weight_decay: float = 1e-2
    warmup: int = 100
    max_norm: float = 1.0
    reward_max_norm: float = 100.0


_NOISE = ("loc", "scale", "sigma_min", "sigma_max")


@dataclass(frozen=True)
class DiamondConfig(ModelConfig):
    """Sizes of a DIAMOND and its training; the defaults are the paper's for Atari.

    Attributes:
        network: sizes of the models, and how frames are drawn.
        loss: windows and noise of training.
        optimizer: numbers of AdamW.
    """

    network: DiamondNetworkConfig = field(default_factory=DiamondNetworkConfig)
    loss: DiamondLossConfig = field(default_factory=DiamondLossConfig)
    optimizer: DiamondOptimizerConfig = field(default_factory=DiamondOptimizerConfig)

    moved: ClassVar = {
        **{f"denoiser.{name}": f"loss.noise.{name}" for name in _NOISE},
        **{f"upsampler.denoiser.{name}": f"loss.upsampler_noise.{name}" for name in _NOISE},
        "upsampler.autoregressive": "loss.upsampler_autoregressive",
        "reward_end.steps": "loss.reward_steps",
        "reward_end.windows": "loss.reward_windows",
    }

    @classmethod
    def tiny(cls, **changes: Any) -> "DiamondConfig":
        """For images of 16 to 32 pixels a side on a CPU: minutes, not hours. Not a scaled-down paper."""
        levels = {"depths": (1, 1), "attends": (False, False)}
        denoiser = DenoiserConfig(cond=64, channels=(16, 32), **levels)
        reward_end = RewardEndConfig(hidden=64, cond=32, channels=(8, 16), **levels)
        sizes = {"denoiser": denoiser, "reward_end": reward_end}
        return cls().vary(**{**sizes, "reward_steps": 12, "reward_windows": 1, "lr": 1e-3, **changes})

    @classmethod
    def pong(cls, **changes: Any) -> "DiamondConfig":
        """ALE/Pong at 64x64 on a CPU; ours, like ``tiny``."""
        # Four levels, as the paper's: its lowest attends, and costs sixteen times as much a level further up.
        levels = {"depths": (1, 1, 1, 1), "attends": (False, False, False, False)}
        denoiser = DenoiserConfig(cond=64, channels=(16, 32, 32, 32), **levels)
        reward_end = RewardEndConfig(hidden=64, cond=32, channels=(8, 8, 16, 16), **levels)
        sizes = {"denoiser": denoiser, "reward_end": reward_end}
        training = {"reward_steps": 6, "reward_windows": 1, "lr": 1e-3, "segments": 1}
        return cls().vary(**{**sizes, **training, **changes})

    @classmethod
    def atari(cls, **changes: Any) -> "DiamondConfig":
        """Atari 100k: 4,405,955 and 5,900,864 parameters with four actions."""
        return cls().vary(**changes)

    @classmethod
    def csgo(cls, **changes: Any) -> "DiamondConfig":
        """Counter-Strike at 150x280: 330,489,219 and 51,149,187 parameters; no reward, no termination.

        Sampled as in the authors' fast setting: one step each, a little noise on the context.
        """
        noised = {"sigma_offset": 0.1, "noised_context": True, "cond": 2048}
        denoiser = DenoiserConfig(channels=(128, 256, 512, 1024), attends=(False, False, True, True), **noised)
        upsampler = DenoiserConfig(channels=(64, 64, 128, 256), attends=(False, False, False, True), **noised)
        fast, levels = EDMSampler(steps=1), NoiseLevelConfig(loc=-1.2)
        models = {"denoiser": denoiser, "upsampler": UpsamplerConfig(denoiser=upsampler, sampler=fast)}
        models |= {"reward_end": None, "sampler": replace(fast, s_cond=0.005)}
        training = {"autoregressive": 4, "segments": 1, "max_norm": 10.0, "noise": levels, "upsampler_noise": levels}
        return cls().vary(**{**models, **training, **changes})

    @classmethod
    def gamengen(cls, **changes: Any) -> "DiamondConfig":
        """GameNGen's context on this network: 64 frames and actions, noise on the frames, 4 steps; for 240x320 pixels.

        Context, steps and optimiser are the paper's; the network, its process and frames of pixels are DIAMOND's, with
        the channels of Stable Diffusion 1.4.
        """
        denoiser = DenoiserConfig(
            cond=1280, channels=(320, 640, 1280, 1280), attends=(True, True, True, False), noised_context=True
        )
        models = {"context": 64, "denoiser": denoiser, "reward_end": None, "sampler": EDMSampler(steps=4)}
        training = {"autoregressive": 0, "segments": 1, "lr": 2e-5, "weight_decay": 0.0}
        return cls().vary(**{**models, **training, **changes})


FINE_DYNAMICS = EDMSampler(steps=3, s_cond=0.005)
"""CS:GO in higher quality: ``model.sampler = FINE_DYNAMICS``."""

FINE_UPSAMPLER = EDMSampler(steps=10, sigma_min=1.0, s_churn=10.0, s_tmin=1.0, s_tmax=5.0, s_noise=0.9)
"""CS:GO in higher quality: ``model.upsampler_sampler = FINE_UPSAMPLER``."""
