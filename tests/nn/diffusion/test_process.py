"""Processes of levels by their numbers, and films sampled along scheduling matrices."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wmcomponents.functional import (
    AlphaSigma,
    CleanTarget,
    DDIMSampler,
    Denoised,
    NoisedContext,
    ScaledContext,
    UntouchedContext,
    VTarget,
    alphas_cumprod,
    autoregressive_schedule,
    cosine_betas,
    denoised,
    full_sequence_schedule,
    levels_from_clean,
    linear_betas,
    pyramid_schedule,
    reverse_steps,
    sigmoid_betas,
    trapezoid_schedule,
)
from wmcomponents.nn import DiffusionProcess, ForcingSampler

PROCESS = DiffusionProcess(sigmoid_betas(50))
V = VTarget()


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_levels_are_looked_up_from_clean_on():
    process, betas = DiffusionProcess(linear_betas(100)), linear_betas(100)
    level = torch.tensor([[-1, 0], [50, 99]])
    at, share = process.at(level), alphas_cumprod(betas)
    assert at.alpha[0, 0] == 1.0 and at.sigma[0, 0] == 0.0
    torch.testing.assert_close(at.sigma[0, 1], betas[0].sqrt().float())
    torch.testing.assert_close(at.alpha[1], share[[50, 99]].sqrt().float())
    torch.testing.assert_close(process.snr(level[1]), (share / (1 - share))[[50, 99]].float())
    rows = process.steps_from(level[1])
    torch.testing.assert_close(rows.log_large, betas[[50, 99]].log().float())
    torch.testing.assert_close(rows.of_clean, reverse_steps(betas).of_clean[[50, 99]].float())


def test_a_process_is_no_weight_and_follows_its_model():
    process = DiffusionProcess(linear_betas(100))
    assert not process.state_dict() and not list(process.parameters())
    with torch.device("meta"):
        built = DiffusionProcess(linear_betas(100))
    assert built.alpha.device.type == "cpu" and built.alpha.equal(process.alpha)


@pytest.mark.parametrize("betas", [[], [[0.1]], [0.1, 0.0], [1.5]])
def test_what_are_no_betas_is_refused(betas):
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        DiffusionProcess(torch.tensor(betas))


@pytest.mark.parametrize(
    "levels,context,eta,words",
    [
        ([-1], 3, 0.0, "rise from -1"),
        ([0, 49], 3, 0.0, "rise from -1"),
        ([-1, 20, 20], 3, 0.0, "rise from -1"),
        ([-1, 50], 3, 0.0, "at most 49"),
        ([-1, 49], 50, 0.0, "stabilization level"),
        ([-1, 49], -1, 0.0, "stabilization level"),
        ([-1, 49], 3, -0.5, "eta is at least 0"),
    ],
)
def test_sampling_that_cannot_be_is_refused_in_words(levels, context, eta, words):
    with pytest.raises(ValueError, match=words):
        ForcingSampler(PROCESS, levels, UntouchedContext(context), eta)


def network(x, level):
    """A causal one that is told each frame's level: the sum of the frames so far."""
    said = (0.3 * x.cumsum(1) + 0.01 * level[..., None]).sin()
    return denoised(V, said, x, PROCESS.at(level))


def sampler(steps=5, context=None, eta=0.0):
    return ForcingSampler(PROCESS, levels_from_clean(50, steps), context or UntouchedContext(2), eta)


def test_the_full_sequence_is_ddim_of_the_whole_film():
    film, fresh = normal(2, 4, 3), normal(5, 2, 4, 3, seed=1)
    ordinary = DDIMSampler(PROCESS.betas, levels_from_clean(50, 5), eta=0.7)

    def denoise(x, step):
        return network(x, torch.full(x.shape[:2], step.level))

    ours = sampler(eta=0.7).sample(network, film, full_sequence_schedule(4, 5), noise=fresh)
    torch.testing.assert_close(ours, ordinary.sample(denoise, film, fresh), rtol=1e-4, atol=1e-5)


def test_frames_one_after_the_other_are_frames_dreamt_one_at_a_time():
    film, one_by_one = normal(2, 3, 4), sampler()
    whole = one_by_one.sample(network, film, autoregressive_schedule(3, 5))
    past = film[:, :0]
    for t in range(3):
        schedule = torch.cat([torch.zeros(6, t, dtype=torch.int64), full_sequence_schedule(1, 5)], 1)
        past = one_by_one.sample(network, torch.cat([past, film[:, t : t + 1]], 1), schedule)
    torch.testing.assert_close(past, whole)


@given(st.sampled_from([pyramid_schedule, trapezoid_schedule]), st.integers(1, 4), st.integers(1, 5))
def test_every_schedule_leads_a_perfect_network_to_the_film(schedule, frames, steps):
    clean = normal(2, frames, 3, seed=frames)

    def perfect(x, level):
        at = PROCESS.at(level).over(x)
        return Denoised(clean, (x - at.alpha * clean) / at.sigma)

    found = sampler(steps).sample(perfect, normal(2, frames, 3), schedule(frames, steps))
    torch.testing.assert_close(found, clean)


@pytest.mark.parametrize("kind", [UntouchedContext, ScaledContext, NoisedContext])
def test_clean_frames_are_told_as_slightly_noisy_and_stay_as_they_are(kind):
    film, noise, seen = normal(1, 2, 3), normal(1, 2, 3, seed=1), []

    def watch(x, level):
        seen.append((x, level))
        return network(x, level)

    sampler(context=kind(2)).step(watch, film, torch.tensor([[0, 5]]), torch.tensor([[0, 4]]), context_noise=noise)
    (x, level), at = seen[0], PROCESS.at(torch.tensor([[2, 49]]))
    assert level.tolist() == [[2, 49]] and x[:, 1].equal(film[:, 1])
    assert x[:, 0].equal(kind(2).shown(film, AlphaSigma(*at), noise)[:, 0])
    after = sampler(context=kind(2)).step(network, film, torch.tensor([[0, 5]]), torch.tensor([[0, 4]]))
    assert after[:, 0].equal(film[:, 0]) and not after[:, 1].equal(film[:, 1])


def test_each_film_may_have_a_schedule_of_its_own():
    film = normal(2, 3, 4)
    both = torch.stack([autoregressive_schedule(3, 5), pyramid_schedule(3, 5, 5)], 1)
    one = sampler().sample(network, film, autoregressive_schedule(3, 5))
    torch.testing.assert_close(sampler().sample(network, film, both), one)


def test_a_target_of_the_data_needs_no_noise_at_the_last_level():
    process = DiffusionProcess(cosine_betas(50))

    def guess(x, level):
        return denoised(CleanTarget(), x.tanh(), x, process.at(level))

    made = ForcingSampler(process, levels_from_clean(50, 50), UntouchedContext(0), eta=1.0)
    x = made.sample(guess, normal(2, 3, 4), full_sequence_schedule(3, 50), noise=normal(50, 2, 3, 4))
    assert bool(x.isfinite().all()) and float(x.abs().max()) <= 1.0
