"""The denoiser and its samplers against the numbers of the authors' code."""

import pytest
import torch

from tests.support.golden_diamond import channels_last, denoiser, one_hot
from wmcomponents.functional import EDMSampler

LEVEL = 2 / 255 + 1e-6


@torch.no_grad()
def test_the_denoiser_of_atari_is_the_official_one():
    part, info, vectors = denoiser("diamond_denoiser")
    noisy, sigma, context = vectors["in/noisy_next_obs"], vectors["in/sigma"], vectors["in/obs_stacked"]
    actions, coefficients = one_hot(vectors["in/act"], 4), part.coefficients(sigma)
    close = info["tolerance"]
    torch.testing.assert_close(part.network.noise_features(coefficients.c_noise), vectors["out/fourier"], **close)
    torch.testing.assert_close(part.network.embed_actions(actions), vectors["out/act_emb"], **close)
    raw = part.raw(noisy, coefficients, context, actions)
    torch.testing.assert_close(raw, vectors["out/model_output"], **close)
    torch.testing.assert_close(part.mean(raw, noisy, coefficients), vectors["out/denoised_unquantised"], **close)
    denoised = part.denoise(noisy, sigma, context, actions)
    torch.testing.assert_close(denoised, vectors["out/denoised"], rtol=0, atol=LEVEL)
    assert float((denoised != vectors["out/denoised"]).float().mean()) < 1e-3


@torch.no_grad()
def test_the_denoiser_of_csgo_is_the_official_one():
    part, info, vectors = denoiser("csgo_denoiser")
    coefficients = part.coefficients(vectors["in/sigma"])
    torch.testing.assert_close(coefficients.c_noise, vectors["out/c_noise"], **info["tolerance"])
    torch.testing.assert_close(vectors["in/sigma_cond"].log() / 4, vectors["out/c_noise_cond"], **info["tolerance"])
    inputs = vectors["in/noisy_next_obs"], vectors["in/obs_stacked"], vectors["in/act_multihot"].float()
    raw = part.raw(inputs[0], coefficients, *inputs[1:], vectors["in/sigma_cond"])
    torch.testing.assert_close(raw, vectors["out/model_output"], **info["tolerance"])
    denoised = part.denoise(inputs[0], vectors["in/sigma"], *inputs[1:], vectors["in/sigma_cond"])
    torch.testing.assert_close(denoised, vectors["out/denoised"], rtol=0, atol=LEVEL)


@torch.no_grad()
def test_the_component_gives_the_official_numbers_in_the_layout_of_environments():
    part, info, vectors = denoiser("diamond_denoiser")
    context = channels_last(vectors["in/obs_stacked"].unflatten(1, (2, 3)))
    raw, denoised = part(
        channels_last(vectors["in/noisy_next_obs"]),
        vectors["in/sigma"][:, None],
        context,
        one_hot(vectors["in/act"], 4),
    )
    torch.testing.assert_close(raw, channels_last(vectors["out/model_output"]), **info["tolerance"])
    torch.testing.assert_close(denoised, channels_last(vectors["out/denoised"]), rtol=0, atol=LEVEL)


@torch.no_grad()
@pytest.mark.parametrize("name, order", [("diamond_sampler_euler3", 1), ("diamond_sampler_heun3", 2)])
def test_samples_and_every_call_on_the_way_are_the_official_ones(name, order):
    part, info, vectors = denoiser(name)
    context, actions = vectors["in/prev_obs"].flatten(1, 2), one_hot(vectors["in/prev_act"], 4)
    calls, raws = [], []

    def denoise(x, sigma, step):
        level = torch.full((len(x),), sigma)
        coefficients = part.coefficients(level)
        raws.append(part.mean(part.raw(x, coefficients, context, actions), x, coefficients))
        calls.append(part.denoise(x, level, context, actions))
        return calls[-1]

    sampler = EDMSampler(steps=3, order=order)
    path = sampler.trajectory(denoise, vectors["rec/x0"])
    torch.testing.assert_close(torch.tensor(sampler.sigmas()), vectors["out/sigmas"], rtol=1e-6, atol=1e-8)
    for ours, key in (
        (path[-1], "out/x"),
        (torch.stack(path, 1), "out/trajectory"),
        (torch.stack(calls, 1), "out/denoised_quantised_per_call"),
        (torch.stack(raws, 1), "out/denoised_raw_per_call"),
    ):
        torch.testing.assert_close(ours, vectors[key], **info["tolerance"])


@torch.no_grad()
def test_stochastic_upsampling_is_the_official_one():
    part, info, vectors = denoiser("csgo_upsampler")
    low = torch.nn.functional.interpolate(vectors["in/low_res_next_obs"], scale_factor=2.0, mode="bicubic")
    torch.testing.assert_close(low, vectors["out/low_res_bicubic"][:, 0])
    context = torch.cat([vectors["in/prev_full_res"].flatten(1, 2), low], 1)
    c = info["config"]["sampler"]
    sampler = EDMSampler(
        c["num_steps_denoising"],
        c["sigma_min"],
        c["sigma_max"],
        **{key: c[key] for key in ("order", "s_churn", "s_tmin", "s_tmax", "s_noise")},
    )
    churn = torch.stack([vectors[f"rec/churn_eps{i}"] for i in range(4)])
    path = sampler.trajectory(
        lambda x, sigma, step: part.denoise(x, torch.full((len(x),), sigma), context), vectors["rec/x0"], churn
    )
    torch.testing.assert_close(torch.stack(path, 1), vectors["out/trajectory"], **info["tolerance"])
    torch.testing.assert_close(path[-1], vectors["out/x"], **info["tolerance"])
