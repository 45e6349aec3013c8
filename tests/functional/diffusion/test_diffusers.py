"""Schedules and steps against those of diffusers, where it is installed."""

import pytest
import torch

from wmcomponents.functional import (
    AncestralSampler,
    DDIMSampler,
    EulerFlowSampler,
    NoiseTarget,
    VTarget,
    alphas_cumprod,
    clipped_snr,
    cosine_betas,
    denoised,
    linear_betas,
    strided_levels,
)

diffusers = pytest.importorskip("diffusers")

NAMES = {"epsilon": NoiseTarget(), "v_prediction": VTarget()}


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def said(x):
    return (0.3 * x).sin()


def test_schedules_are_diffuserss():
    for ours, name in ((linear_betas(), "linear"), (cosine_betas(), "squaredcos_cap_v2")):
        theirs = diffusers.DDPMScheduler(1000, beta_schedule=name).alphas_cumprod
        torch.testing.assert_close(alphas_cumprod(ours).float(), theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_ddims_steps_are_diffuserss(name, eta):
    scheduler = diffusers.DDIMScheduler(1000, prediction_type=name, clip_sample=False, set_alpha_to_one=True)
    scheduler.set_timesteps(10)
    x, fresh = normal(2, 3), normal(10, 2, 3, seed=1)
    sampler = DDIMSampler(linear_betas(), strided_levels(1000, 10), eta)
    assert scheduler.timesteps.tolist() == [step.level for step in sampler.steps]
    expected = x
    for i, level in enumerate(scheduler.timesteps):
        expected = scheduler.step(said(expected), level, expected, eta=eta, variance_noise=fresh[i]).prev_sample
    ours = sampler.sample(lambda x, step: denoised(NAMES[name], said(x), x, step.now), x, fresh)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind,share", [("fixed_small", 0.0), ("fixed_large", 1.0)])
def test_ancestral_steps_are_diffuserss(kind, share, monkeypatch):
    scheduler = diffusers.DDPMScheduler(1000, variance_type=kind, clip_sample=False)
    scheduler.set_timesteps(10)
    x, fresh = normal(2, 3), normal(10, 2, 3, seed=1)
    drawn = iter(fresh)
    module = diffusers.schedulers.scheduling_ddpm
    monkeypatch.setattr(module, "randn_tensor", lambda *args, **kwargs: next(drawn))
    expected = x
    for level in scheduler.timesteps:
        expected = scheduler.step(said(expected), level, expected).prev_sample
    sampler = AncestralSampler(linear_betas(), strided_levels(1000, 10), share)
    ours = sampler.sample(lambda x, step: denoised(NoiseTarget(), said(x), x, step.now), x, fresh)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_eulers_flow_is_diffuserss(shift):
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(1000, shift=1.0)
    sampler = EulerFlowSampler(10, shift)
    scheduler.set_timesteps(sigmas=sampler.times()[:-1])
    expected = x = normal(2, 3)
    for time in scheduler.timesteps:
        expected = scheduler.step(said(expected), time, expected).prev_sample
    torch.testing.assert_close(sampler.sample(lambda x, time, step: said(x), x), expected, rtol=1e-5, atol=1e-5)


def test_min_snr_is_diffuserss():
    training = pytest.importorskip("diffusers.training_utils")
    scheduler, level = diffusers.DDPMScheduler(1000), torch.tensor([0, 300, 999])
    share = alphas_cumprod(linear_betas())[level]
    ours = clipped_snr(share / (1.0 - share)).full
    torch.testing.assert_close(ours.float(), training.compute_snr(scheduler, level), rtol=1e-3, atol=1e-6)
