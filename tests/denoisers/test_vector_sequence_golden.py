"""Training and sampling with a level for each frame against the numbers of Diffusion Forcing's own code."""

import re

import pytest
import torch

from tests.support.golden_features import close
from tests.support.golden_vectors import load
from wmcomponents.denoisers import VectorSequenceDenoiser
from wmcomponents.functional import (
    ScaledContext,
    VTarget,
    denoised,
    fused_snr,
    levels_from_clean,
    sigmoid_betas,
    snr_weight,
)
from wmcomponents.nn import DiffusionProcess, ForcingSampler

TARGET, NAMES = VTarget(), ((r"^transformer\.", "layers."), (r"^init_mlp\.", "read."))


def network(info, vectors):
    c = info["config"]["architecture"]
    net = VectorSequenceDenoiser(6, 3, c["network_size"], c["num_layers"], c["attn_heads"], c["dim_feedforward"])
    found = {}
    for key, value in vectors.items():
        if key.startswith("w/model."):
            name = key.removeprefix("w/model.")
            for pattern, ours in NAMES:
                name = re.sub(pattern, ours, name)
            found[name] = value
    net.load_state_dict(found)
    return net.eval()


@torch.no_grad()
def test_a_training_step_is_diffusion_forcings():
    info, tensors = load("df_training_step")
    net, process = network(info, tensors), DiffusionProcess(sigmoid_betas(1000))
    clean, level, noise, action = (  # time first there, films first here
        tensors[key].transpose(0, 1) for key in ("in/x", "in/noise_levels", "rec/noise", "in/external_cond")
    )
    close(info, net(clean, level, action).transpose(0, 1), tensors["out/model_out_on_clean_x"])
    noise, at = noise.clamp(-6.0, 6.0), process.at(level)
    x = process.diffuse(clean, noise, level)
    said = net(x, level, action)
    close(info, denoised(TARGET, said, x, at).clean.transpose(0, 1), tensors["out/x_pred"])
    weight = snr_weight(TARGET, fused_snr(process.snr(level), 5.0, 0.96))
    error = (said - TARGET.of(clean, noise, at)).square() * weight[..., None]
    close(info, error.transpose(0, 1), tensors["out/loss_elementwise"])


@torch.no_grad()
def test_a_sampling_step_with_a_clean_frame_is_diffusion_forcings():
    info, tensors = load("df_ddim_sample_step")
    net, process = network(info, tensors), DiffusionProcess(sigmoid_betas(1000))
    assert levels_from_clean(1000, 4) == tensors["out/real_steps"].tolist()
    sampler = ForcingSampler(process, levels_from_clean(1000, 4), ScaledContext(14))
    film, now, after, action = (
        tensors[f"in/{key}"].transpose(0, 1)
        for key in ("x", "curr_noise_level_index", "next_noise_level_index", "external_cond")
    )

    def guess(x, level):
        return denoised(TARGET, net(x, level, action), x, process.at(level))

    close(info, sampler.step(guess, film, now, after).transpose(0, 1), tensors["out/x"])


def test_vectors_and_actions_of_other_sizes_are_refused():
    net = VectorSequenceDenoiser(6, 3, 16, 1, 2, 32)
    with pytest.raises(ValueError, match="vectors of 6 numbers and actions of 3 are expected; got 5 and 3"):
        net(torch.zeros(2, 4, 5), torch.zeros(2, 4), torch.zeros(2, 4, 3))
    with pytest.raises(ValueError, match="got 6 and 2"):
        net(torch.zeros(2, 4, 6), torch.zeros(2, 4), torch.zeros(2, 4, 2))
