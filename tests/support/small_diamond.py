"""Small DIAMONDs, and the images they see."""

import torch
from torchrl.data import Bounded, Composite

from wmcomponents.functional import EDMSampler
from wmcomponents.models import DiamondConfig
from wmcomponents.models.diffusion.diamond.config import (
    DenoiserConfig,
    NoiseLevelConfig,
    RewardEndConfig,
    UpsamplerConfig,
)

LEVELS = {"depths": (1, 1), "channels": (8, 16), "attends": (False, False)}
SMALL = DiamondConfig().vary(
    denoiser=DenoiserConfig(cond=16, **LEVELS),
    reward_end=RewardEndConfig(hidden=8, cond=8, **LEVELS),
    reward_steps=4,
)
UPSAMPLED = DiamondConfig().vary(
    context=2,
    autoregressive=1,
    denoiser=DenoiserConfig(cond=16, sigma_offset=0.1, noised_context=True, **LEVELS),
    noise=NoiseLevelConfig(loc=-1.2),
    upsampler_noise=NoiseLevelConfig(loc=-1.2),
    reward_end=None,
    upsampler=UpsamplerConfig(
        factor=2,
        denoiser=DenoiserConfig(cond=16, sigma_offset=0.1, noised_context=True, **LEVELS),
        sampler=EDMSampler(steps=2, sigma_min=1.0, s_churn=10.0, s_tmin=1.0, s_tmax=5.0, s_noise=0.9),
    ),
    sampler=EDMSampler(steps=2, s_cond=0.05),
)


def image(height, width=None, channels=3):
    return Composite(pixels=Bounded(0, 255, (height, width or height, channels), dtype=torch.uint8))
