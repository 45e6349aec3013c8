"""Training and sampling of diffusion transformers against the numbers of their authors' codes."""

import pytest
import torch

from tests.support.golden_features import close
from tests.support.golden_vectors import load as load_vector
from wmcomponents.functional import (
    AncestralSampler,
    DDIMSampler,
    NoiseTarget,
    classifier_free,
    linear_betas,
    spaced_levels,
    strided_levels,
)
from wmcomponents.models.diffusion.official_transformers import cdit_from_official, dit_from_official
from wmcomponents.nn import DiffusionProcess, denoised_with_variance, hybrid_loss

TARGET = NoiseTarget()


def load(name):
    info, tensors = load_vector(name)
    return info, tensors, {key[2:]: value for key, value in tensors.items() if key.startswith("w/")}


def dit(weights):
    return dit_from_official({"ema": weights, "model": {}, "opt": {}}, heads=4).eval()


@pytest.mark.parametrize("name", ["dit_training_loss", "cdit_training_loss"])
@torch.no_grad()
def test_the_loss_is_the_squared_error_and_the_bits_of_the_variance(name):
    info, tensors, weights = load(name)
    process = DiffusionProcess(linear_betas(1000))
    clean, noise, level = tensors["in/x_start"], tensors["rec/noise"], tensors["in/t"]
    x = process.diffuse(clean, noise, level)
    if name == "dit_training_loss":
        close(info, x, tensors["out/x_t"])
        output = dit(weights)(x, level, tensors["in/y"])
    else:
        inputs = (tensors[f"in/{key}"] for key in ("x_cond", "y_action", "rel_t"))
        output = cdit_from_official(weights, heads=4)(x, level, *inputs)
    loss = hybrid_loss(process, TARGET, output, clean, noise, level)
    close(info, loss.squared_error, tensors["out/mse"])
    close(info, loss.bits, tensors["out/vb"])
    close(info, sum(loss), tensors["out/loss"])


def denoiser(network, label, seen=None):
    """A guess with the variance that the network says."""

    def denoise(x, step):
        output = network(x, torch.full((len(x),), step.level), label)
        guess = denoised_with_variance(TARGET, output, x, step.now)
        if seen is not None:
            seen.append(guess.clean)
        return guess

    return denoise


@torch.no_grad()
def test_ancestral_sampling_through_some_levels_is_dits():
    info, tensors, weights = load("dit_p_sample_loop")
    levels, seen = spaced_levels(1000, 4), []
    assert levels == tensors["out/timestep_map"].tolist()
    fresh = torch.stack([tensors[f"rec/noise{i}"] for i in range(4)])
    denoise = denoiser(dit(weights), tensors["in/y"], seen)
    path = AncestralSampler(linear_betas(), levels).trajectory(denoise, tensors["in/z"], fresh)
    close(info, torch.stack(path[1:], 1), tensors["out/samples"])
    close(info, torch.stack(seen, 1), tensors["out/pred_xstart"])


@torch.no_grad()
def test_ddim_through_some_levels_is_dits():
    info, tensors, weights = load("dit_ddim_loop")
    levels = strided_levels(1000, 5)
    assert levels == tensors["out/timestep_map"].tolist()
    path = DDIMSampler(linear_betas(), levels).trajectory(denoiser(dit(weights), tensors["in/y"]), tensors["in/z"])
    close(info, torch.stack(path[1:], 1), tensors["out/samples"])


@torch.no_grad()
def test_guidance_of_three_channels_is_dits():
    info, tensors, weights = load("dit_tiny")
    half = tensors["in/cfg_x"][:2]
    told, untold = dit(weights)(half.repeat(2, 1, 1, 1), tensors["in/cfg_t"], tensors["in/cfg_y"]).chunk(2)
    guided = classifier_free(told, untold, 4.0, channels=3)
    close(info, guided, tensors["out/cfg4"][:2])


def test_only_the_variance_learns_from_the_bits_and_outputs_of_half_the_size_are_refused():
    process, clean = (
        DiffusionProcess(linear_betas(100)),
        torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)),
    )
    output = torch.zeros(2, 6, 4, requires_grad=True)
    hybrid_loss(process, TARGET, output, clean, clean.flip(0), torch.tensor([0, 50])).bits.sum().backward()
    assert output.grad is not None and not output.grad[:, :3].any() and bool(output.grad[:, 3:].any())
    with pytest.raises(ValueError, match="twice the data's 3 channels; got 3"):
        hybrid_loss(process, TARGET, clean, clean, clean, torch.tensor([0, 50]))
