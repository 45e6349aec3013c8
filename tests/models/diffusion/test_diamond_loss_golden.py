"""The losses of DIAMOND against the numbers of the authors' code."""

import pytest
import torch

from tests.support.golden_diamond import channels_last, one_hot, world_model
from tests.support.golden_vectors import load
from wmcomponents.models.diffusion.diamond.official import our_name
from wmcomponents.models.diffusion.diamond.segments import DenoisingNoise, FrameSegments, target_weight


def step_noise(vectors, i):
    recorded = {key.removeprefix(f"rec/step{i}/"): v for key, v in vectors.items() if key.startswith(f"rec/step{i}/")}
    context = None
    if "cond_noise" in recorded:
        context = DenoisingNoise(*(recorded[key] for key in ("sigma_cond_normal", "cond_offset_normal", "cond_noise")))
    return DenoisingNoise(recorded["sigma_normal"], recorded["offset_normal"], recorded["noise"], context)


def tolerances(info):
    return info["tolerance"]


@pytest.mark.parametrize("name", ["diamond_denoiser_loss", "csgo_denoiser_loss"])
def test_the_denoising_loss_and_its_gradients_are_the_official_ones(name):
    info, vectors = load(name)
    model = world_model(name, vectors, info)
    loss = model.objective()
    action = vectors["in/act"]
    vector = action.float() if action.ndim == 3 else one_hot(action, info["config"]["inner_model"]["num_actions"])
    segments = FrameSegments(
        channels_last(vectors["in/obs"]),
        vector[:, :-1],
        vectors["in/mask_padding"].float(),
        vectors["in/mask_padding"].bool(),
    )
    noise = [step_noise(vectors, i) for i in range(2)]
    with loss.world_model_params.to_module(loss.world_model):
        errors = loss.denoising(segments, noise)
    weight = target_weight(segments.weight, 1)
    total = (errors * weight).sum() / weight.sum()
    torch.testing.assert_close(total, vectors["out/loss"], **tolerances(info))
    total.backward()
    gradients = {key.removeprefix("out/grad/inner_model."): v for key, v in vectors.items() if "out/grad/" in key}
    assert gradients or name.startswith("csgo")
    for key, expected in gradients.items():
        found = loss.world_model_params.get(("denoiser", "network", *our_name(key).split("."))).grad
        torch.testing.assert_close(found, expected, **tolerances(info))


def test_each_step_of_the_denoising_loss_is_the_official_one():
    info, vectors = load("diamond_denoiser_loss")
    model = world_model("diamond_denoiser_loss", vectors, info)
    loss, denoiser = model.objective(), model.denoiser
    frames = list(vectors["in/obs"].unbind(1))
    actions = one_hot(vectors["in/act"], 4)
    for i in range(2):
        seen = {}
        raw = denoiser.raw

        def spy(noisy, coefficients, *rest, seen=seen, raw=raw):
            seen["noisy"], seen["output"] = noisy, raw(noisy, coefficients, *rest)
            return seen["output"]

        denoiser.raw = spy
        context = torch.cat(frames[i : i + 2], 1)
        with torch.no_grad(), loss.world_model_params.to_module(model):
            _, frames[i + 2] = loss._denoise(
                denoiser, model.config.loss.noise, frames[i + 2], context, actions[:, i : i + 2], step_noise(vectors, i)
            )
        denoiser.raw = raw
        torch.testing.assert_close(seen["noisy"], vectors[f"out/step{i}/noisy_next_obs"], **tolerances(info))
        torch.testing.assert_close(seen["output"], vectors[f"out/step{i}/model_output"], **tolerances(info))
        torch.testing.assert_close(frames[i + 2], vectors[f"out/step{i}/denoised"], **tolerances(info))


def test_the_upsampling_loss_is_the_official_one():
    info, vectors = load("csgo_upsampler_loss")
    loss = world_model("csgo_upsampler_loss", vectors, info).objective()
    large = channels_last(vectors["in/obs_full"])
    segments = FrameSegments(
        large, torch.zeros(2, 2, 6), torch.ones(large.shape[:2]), torch.ones(large.shape[:2]).bool()
    )
    with loss.world_model_params.to_module(loss.world_model):
        errors = loss.upsampling(
            segments, channels_last(vectors["in/obs_low"]), noise=[step_noise(vectors, i) for i in range(2)]
        )
    torch.testing.assert_close(errors.mean(), vectors["out/loss"], **tolerances(info))


def test_the_losses_of_reward_and_end_are_the_official_ones():
    info, vectors = load("diamond_rew_end_loss")
    loss = world_model("diamond_rew_end_loss", vectors, info).objective()
    frames, ended = channels_last(vectors["in/obs"]), vectors["in/end"]
    following = frames[:, 1:].clone()
    (index,) = ended[0].nonzero(as_tuple=True)
    following[0, index[0]] = channels_last(vectors["in/final_observation_of_sample0"])
    mask = vectors["in/mask_padding"][:, :-1].bool()
    with loss.world_model_params.to_module(loss.world_model):
        rewards, ends = loss.reward_end(
            frames[:, :-1],
            one_hot(vectors["in/act"][:, :-1], 4),
            following,
            vectors["in/rew"][:, :-1],
            ended[:, :-1].bool(),
            torch.zeros(2, 4, 1, dtype=torch.bool),
        )
    torch.testing.assert_close(rewards[mask].mean(), vectors["out/loss_rew"], **tolerances(info))
    torch.testing.assert_close(ends[mask].mean(), vectors["out/loss_end"], **tolerances(info))
    total = rewards[mask].mean() + ends[mask].mean()
    torch.testing.assert_close(total, vectors["out/loss"], **tolerances(info))
