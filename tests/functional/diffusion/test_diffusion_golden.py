"""Schedules, weights, flows and scheduling matrices against the authors' own numbers."""

import pytest
import torch

from tests.support.golden_vectors import load
from wmcomponents.functional import (
    AlphaSigma,
    EulerFlowSampler,
    ReversedVelocityTarget,
    alphas_cumprod,
    autoregressive_schedule,
    betas_between,
    clipped_snr,
    diffused,
    film_shift,
    full_sequence_schedule,
    fused_snr,
    levels_from_clean,
    linear_betas,
    oscillating_scale,
    pyramid_schedule,
    reverse_steps,
    shifted_time,
    sigmoid_betas,
    snr_weight,
    spaced_levels,
    strided_levels,
    target_named,
    token_shift,
    trapezoid_schedule,
)


def close(actual, expected, info):
    torch.testing.assert_close(actual, expected, **info["tolerance"])


def test_the_linear_schedule_is_dits():
    info, tensors = load("dit_schedule")
    betas = linear_betas(1000)
    close(betas, tensors["out/betas"], info)
    close(alphas_cumprod(betas), tensors["out/alphas_cumprod"], info)
    close(reverse_steps(betas).log_small, tensors["out/posterior_log_variance_clipped"], info)


@pytest.mark.parametrize("name", ["250", "50", "4", "ddim50"])
def test_respacing_is_dits(name):
    info, tensors = load("dit_schedule")
    spaced = strided_levels(1000, 50) if name == "ddim50" else spaced_levels(1000, int(name))
    assert spaced == tensors[f"out/timestep_map_{name}"].tolist()
    betas = betas_between(alphas_cumprod(linear_betas(1000))[spaced])
    close(betas, tensors[f"out/respaced_betas_{name}"], info)


def test_the_sigmoid_schedule_and_its_levels_are_oasiss():
    info, tensors = load("oasis_sigmoid_schedule")
    betas = sigmoid_betas(1000)
    close(betas, tensors["out/betas"], info)
    close(alphas_cumprod(betas.float()), tensors["out/alphas_cumprod_f32"], info)
    assert levels_from_clean(1000, 10) == tensors["out/noise_range_10_long"].tolist()


@pytest.mark.parametrize("name", ["pred_v", "pred_x0", "pred_noise"])
@pytest.mark.parametrize("kind", ["minsnr", "fused"])
def test_weights_are_diffusion_forcings(name, kind):
    info, tensors = load("df_loss_weights")
    share = alphas_cumprod(sigmoid_betas(1000))
    close(share.float(), tensors["out/alphas_cumprod"], info)
    snr = (share / (1.0 - share))[tensors["in/noise_levels"]].T  # time first there, last here
    target = target_named({"pred_v": "v", "pred_x0": "clean", "pred_noise": "noise"}[name])
    kept = fused_snr(snr, clip=5.0, decay=0.96) if kind == "fused" else clipped_snr(snr, clip=5.0)
    close(snr_weight(target, kept).T.float(), tensors[f"out/{name}_{kind}"], info)


def test_scheduling_matrices_are_diffusion_forcings():
    _, tensors = load("df_scheduling_matrices")
    for uncertainty in (1, 2, 5):
        matrix = pyramid_schedule(4, 5, uncertainty)
        assert matrix.equal(tensors[f"out/pyramid_h4_S5_u{uncertainty}"]), uncertainty
    assert autoregressive_schedule(4, 5).equal(tensors["out/pyramid_h4_S5_u5"])
    assert full_sequence_schedule(4, 5).equal(tensors["out/full_sequence_h4_S5"])


def test_the_trapezoid_is_diffusion_forcings_where_asked_for_and_else_its_halves_mirror_each_other():
    _, tensors = load("df_scheduling_matrices")
    theirs, ours = tensors["out/trapezoid_h4_S5_u1"], trapezoid_schedule(4, 5)
    assert trapezoid_schedule(4, 5, as_published=True).equal(theirs)
    odd = trapezoid_schedule(5, 2, as_published=True)
    assert odd[0].tolist() == [2, 2, 2, 2, 2] and odd[1].tolist() == [1, 2, 2, 2, 2] and odd.shape == (5, 5)
    assert theirs[:, :2].equal(ours[:, :2])
    assert theirs[:, 3].equal(ours[:, 2])  # theirs is column -1, and -0 is the first again
    assert not theirs[:, 2].any() and ours[:, 3].equal(ours[:, 0])


def test_the_flow_of_open_sora_1_2_leads_from_noise_to_data():
    info, tensors = load("opensora12_rflow_loss")
    clean, noise, time = tensors["in/x_start"], tensors["rec/noise"], tensors["in/t"]
    target, frames_first = ReversedVelocityTarget(), clean.transpose(1, 2)

    def loss(mask):
        """The mean error of frames that are noisy; the others are clean, as at time 0."""
        level = AlphaSigma.flow(time[:, None] / 1000.0 * mask)
        x = diffused(frames_first, noise.transpose(1, 2), level)
        said = torch.einsum("cd,ntd...->ntc...", tensors["in/model_W"], x) + time.view(3, 1, 1, 1, 1) / 1000.0
        error = (said - target.of(frames_first, noise.transpose(1, 2), level)).square().flatten(2).mean(2)
        return x.transpose(1, 2), (error * mask).sum(1) / mask.sum(1)

    noisy, plain = loss(torch.ones(3, 5))
    close(noisy, tensors["out/x_t"], info)
    close(plain, tensors["out/loss"], info)
    close(loss(tensors["in/mask"].float())[1], tensors["out/loss_masked"], info)


def test_larger_films_are_shifted_as_in_open_sora_1_2():
    info, tensors = load("opensora12_rflow_loss")
    sizes = zip(tensors["in/height"].tolist(), tensors["in/width"].tolist(), strict=True)
    pixels, frames = [h * w for h, w in sizes], (tensors["in/num_frames"] // 17 * 5).tolist()
    time = tensors["in/t"] / 1000.0

    def shifted(shifts):
        return 1000.0 * shifted_time(time, torch.tensor(shifts))

    close(shifted([film_shift(p) for p in pixels]), tensors["out/timestep_transform_images"], info)
    # The official code takes all elements for films where the first is one: the last, of one frame, then has none.
    film = [film_shift(p, f) for p, f in zip(pixels, frames, strict=True)]
    close(shifted(film), tensors["out/timestep_transform_video"], info)


def test_times_and_oscillation_are_open_sora_2s():
    info, tensors = load("opensora2_schedule")
    for shift in (1.0, 3.0, 5.7):
        close(shifted_time(tensors["in/t"], shift), tensors[f"out/time_shift_{shift}"], info)
    for steps, tokens, frames in [(10, 256, 1), (10, 1000, 33), (50, 4096, 9)]:
        times = EulerFlowSampler(steps, token_shift(tokens, frames)).times()
        close(torch.tensor(times), tensors[f"out/schedule_steps{steps}_seq{tokens}_frames{frames}"], info)
    close(torch.tensor([token_shift(n) for n in (256, 1000, 4096)]), tensors["out/res_lin_256_1000_4096"], info)
    scales = [oscillating_scale(7.5, step) for step in range(20)]
    assert scales == tensors["out/osci_gs_7.5_steps20"].tolist()
