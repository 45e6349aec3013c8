"""Sizes of a DIAMOND, of its parts and their training."""

from dataclasses import dataclass, field, replace
from typing import Any

from wmcomponents.functional.edm_sampler import EDMSampler


@dataclass(frozen=True)
class DenoiserConfig:
    """Sizes of a denoiser, its preconditioning and the noise that it is trained on.

    Attributes:
        cond: size of the condition.
        depths: residual blocks of each level.
        channels: of each level.
        attends: whether a level's blocks attend.
        sigma_data: standard deviation of the data.
        sigma_offset: standard deviation of the noise that a channel shares.
        noised_context: whether the context carries noise, of which the network is told.
        loc: mean of the logarithm of the noise levels in training.
        scale: their spread.
        sigma_min: smallest of them.
        sigma_max: largest of them.
    """

    cond: int = 256
    depths: tuple[int, ...] = (2, 2, 2, 2)
    channels: tuple[int, ...] = (64, 64, 64, 64)
    attends: tuple[bool, ...] = (False, False, False, False)
    sigma_data: float = 0.5
    sigma_offset: float = 0.3
    noised_context: bool = False
    loc: float = -0.4
    scale: float = 1.2
    sigma_min: float = 0.002
    sigma_max: float = 20.0


@dataclass(frozen=True)
class RewardEndConfig:
    """Sizes of the model of reward and termination, and its training.

    Attributes:
        hidden: size of the LSTM's h and c.
        cond: size of the action's embedding.
        depths: residual blocks of each level.
        channels: of each level.
        attends: whether a level's blocks attend.
        steps: transitions of a training window; the memory is zero at its start.
        windows: of each training sequence.
    """

    hidden: int = 512
    cond: int = 128
    depths: tuple[int, ...] = (2, 2, 2, 2)
    channels: tuple[int, ...] = (32, 32, 32, 32)
    attends: tuple[bool, ...] = (False, False, False, False)
    steps: int = 18
    windows: int = 2


@dataclass(frozen=True)
class UpsamplerConfig:
    """A second diffusion model, from small frames to those that the environment shows.

    Attributes:
        factor: of the sides.
        context: past large frames that it sees beside the small one.
        autoregressive: training steps on frames of its own after the first.
        denoiser: its sizes.
        sampler: how it is sampled.
    """

    factor: int = 5
    context: int = 1
    autoregressive: int = 1
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    sampler: EDMSampler = field(default_factory=EDMSampler)


@dataclass(frozen=True)
class DiamondConfig:
    """Sizes of a DIAMOND and its training; the defaults are the paper's for Atari.

    Attributes:
        context: past frames and actions that the denoiser sees.
        autoregressive: training steps on frames of its own after the first.
        segments: of each training sequence, drawn anew; the paper has single segments.
        denoiser: sizes of the denoiser of (small) frames.
        sampler: how it is sampled; ``model.sampler`` may be set later.
        reward_end: sizes of the model of reward and termination; ``None`` for none.
        upsampler: a second diffusion model; ``None`` for none.
        lr: learning rate.
        weight_decay: AdamW's.
        warmup: steps over which the rate grows.
        max_norm: largest norm of a denoiser's gradient.
        reward_max_norm: likewise of the model of reward and termination.
    """

    context: int = 4
    autoregressive: int = 1
    segments: int = 2
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    sampler: EDMSampler = field(default_factory=EDMSampler)
    reward_end: RewardEndConfig | None = field(default_factory=RewardEndConfig)
    upsampler: UpsamplerConfig | None = None
    lr: float = 1e-4
    weight_decay: float = 1e-2
    warmup: int = 100
    max_norm: float = 1.0
    reward_max_norm: float = 100.0

    @classmethod
    def tiny(cls, **changes: Any) -> "DiamondConfig":
        """For images of 16 to 32 pixels a side on a CPU: minutes, not hours. Not a scaled-down paper."""
        levels = {"depths": (1, 1), "attends": (False, False)}
        denoiser = DenoiserConfig(cond=64, channels=(16, 32), **levels)
        reward_end = RewardEndConfig(hidden=64, cond=32, channels=(8, 16), steps=12, windows=1, **levels)
        sizes = {"denoiser": denoiser, "reward_end": reward_end, "lr": 1e-3}
        return cls(**{**sizes, **changes})

    @classmethod
    def pong(cls, **changes: Any) -> "DiamondConfig":
        """ALE/Pong at 64x64 on a CPU; ours, like ``tiny``."""
        # Four levels, as the paper's: its lowest attends, and costs sixteen times as much a level further up.
        levels = {"depths": (1, 1, 1, 1), "attends": (False, False, False, False)}
        denoiser = DenoiserConfig(cond=64, channels=(16, 32, 32, 32), **levels)
        reward_end = RewardEndConfig(hidden=64, cond=32, channels=(8, 8, 16, 16), steps=6, windows=1, **levels)
        sizes = {"denoiser": denoiser, "reward_end": reward_end, "lr": 1e-3, "segments": 1}
        return cls(**{**sizes, **changes})

    @classmethod
    def atari(cls, **changes: Any) -> "DiamondConfig":
        """Atari 100k: 4,405,955 and 5,900,864 parameters with four actions."""
        return cls(**changes)

    @classmethod
    def csgo(cls, **changes: Any) -> "DiamondConfig":
        """Counter-Strike at 150x280: 330,489,219 and 51,149,187 parameters; no reward, no termination.

        Sampled as in the authors' fast setting: one step each, a little noise on the context.
        """
        noise = {"sigma_offset": 0.1, "noised_context": True, "loc": -1.2, "cond": 2048}
        denoiser = DenoiserConfig(channels=(128, 256, 512, 1024), attends=(False, False, True, True), **noise)
        upsampler = DenoiserConfig(channels=(64, 64, 128, 256), attends=(False, False, False, True), **noise)
        fast = EDMSampler(steps=1)
        sizes = {"autoregressive": 4, "reward_end": None, "segments": 1, "max_norm": 10.0}
        models = {"denoiser": denoiser, "upsampler": UpsamplerConfig(denoiser=upsampler, sampler=fast)}
        return cls(**{**sizes, **models, "sampler": replace(fast, s_cond=0.005), **changes})


FINE_DYNAMICS = EDMSampler(steps=3, s_cond=0.005)
"""CS:GO in higher quality: ``model.sampler = FINE_DYNAMICS``."""

FINE_UPSAMPLER = EDMSampler(steps=10, sigma_min=1.0, s_churn=10.0, s_tmin=1.0, s_tmax=5.0, s_noise=0.9)
"""CS:GO in higher quality: ``model.upsampler_sampler = FINE_UPSAMPLER``."""
