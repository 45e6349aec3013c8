"""Laws of diffusion, for any schedule, level and target."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wmcomponents.functional import (
    GIVEN,
    AlphaSigma,
    AncestralSampler,
    CleanTarget,
    DDIMSampler,
    Denoised,
    EulerFlowSampler,
    NoisedContext,
    NoiseTarget,
    ReversedVelocityTarget,
    ScaledContext,
    UntouchedContext,
    VelocityTarget,
    VTarget,
    alphas_cumprod,
    autoregressive_schedule,
    betas_between,
    classifier_free,
    clipped_snr,
    cosine_betas,
    ddim_step,
    denoised,
    diffused,
    discretized_gaussian_bits,
    full_sequence_schedule,
    fused_snr,
    gaussian_kl_bits,
    given_frames,
    levels_from_clean,
    linear_betas,
    logit_normal_time,
    pyramid_schedule,
    reverse_step,
    reverse_steps,
    shifted_time,
    sigmoid_betas,
    snr_weight,
    spaced_levels,
    strided_levels,
    target_named,
    three_way,
    trapezoid_schedule,
    variance_share,
    variational_bound,
)

GIVEN_FRAMES = st.sampled_from(GIVEN)
SCHEDULES = {"linear": linear_betas, "cosine": cosine_betas, "sigmoid": sigmoid_betas}
schedules = st.sampled_from(sorted(SCHEDULES))
lengths = st.integers(40, 1000)
seeds = st.integers(0, 100)
ON_CIRCLE = [NoiseTarget(), CleanTarget(), VTarget()]
ON_LINE = [NoiseTarget(), CleanTarget(), VelocityTarget(), ReversedVelocityTarget()]
shares = st.floats(0.01, 0.99)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def level_of(share, is_line):
    return AlphaSigma.flow(1.0 - share) if is_line else AlphaSigma.preserving(share)


# -- schedules -----------------------------------------------------------------------------------------------------


@given(schedules, lengths)
def test_the_datas_share_falls_from_almost_all_to_almost_nothing(name, steps):
    betas = SCHEDULES[name](steps)
    share = alphas_cumprod(betas)
    assert betas.dtype == torch.float64 and len(betas) == steps
    assert bool((share.diff() < 0.0).all()) and 0.98 > 1.0 - share[0] > 0.0 and share[-1] < 1e-2
    torch.testing.assert_close(betas_between(share), betas)


def test_cosine_and_sigmoid_have_their_shares_where_the_papers_put_them():
    # Half way: cos(pi/2 (0.5 + s) / (1 + s))^2 over that of 0; and the sigmoid is symmetric.
    s = 0.008
    half = (math.cos(math.pi / 2 * (0.5 + s) / (1 + s)) / math.cos(math.pi / 2 * s / (1 + s))) ** 2
    assert float(alphas_cumprod(cosine_betas(1000))[499]) == pytest.approx(half)
    assert float(alphas_cumprod(sigmoid_betas(1000))[499]) == pytest.approx(0.5)


@given(lengths, st.data())
def test_spaced_levels_begin_and_end_where_the_process_does(levels, data):
    count = data.draw(st.integers(2, levels))
    kept = spaced_levels(levels, count)
    assert len(kept) == count and kept[0] == 0 and kept[-1] == levels - 1 and sorted(set(kept)) == kept
    clean = levels_from_clean(levels, count)
    assert clean[0] == -1 and clean[-1] == levels - 1 and sorted(set(clean)) == clean and len(clean) == count + 1


def test_levels_of_several_pieces_are_spaced_in_each():
    assert spaced_levels(300, [10, 15, 20])[:2] == [0, 11] and len(spaced_levels(300, [10, 15, 20])) == 45
    assert spaced_levels(7, [1, 2]) == [0, 4, 6]  # the first piece has the level that is left over


@pytest.mark.parametrize(
    "wrong,words",
    [
        (lambda: linear_betas(0), "at least one step"),
        (lambda: linear_betas(10), "betas lie between 0 and 1"),
        (lambda: linear_betas(1000, 2e-2, 1e-4), "do not fall"),
        (lambda: cosine_betas(10, -0.1), "offset is at least 0"),
        (lambda: sigmoid_betas(10, 3.0, -3.0), "start < end"),
        (lambda: sigmoid_betas(10, tau=0.0), "tau > 0"),
        (lambda: spaced_levels(10, 11), "at most 10"),
        (lambda: spaced_levels(10, []), "how many levels"),
        (lambda: spaced_levels(10, [1, 0]), "at least 1"),
        (lambda: strided_levels(1000, 999), "no whole stride"),
        (lambda: levels_from_clean(10, 0), "between 1 and 10"),
        (lambda: levels_from_clean(10, 11), "between 1 and 10"),
        (lambda: DDIMSampler(linear_betas(100), []), "rising numbers"),
        (lambda: DDIMSampler(linear_betas(100), [3, 2]), "rising numbers"),
        (lambda: DDIMSampler(linear_betas(100), [3, 100]), "between 0 and 99"),
        (lambda: DDIMSampler(linear_betas(100), [3], eta=-1.0), "eta is at least 0"),
        (lambda: AncestralSampler(linear_betas(100), [3], variance_share=2.0), "in [0, 1]"),
        (lambda: EulerFlowSampler(0), "at least one step"),
        (lambda: EulerFlowSampler(3, 0.0), "shift > 0"),
        (lambda: pyramid_schedule(0, 3), "at least one frame"),
        (lambda: full_sequence_schedule(3, 0), "one step"),
        (lambda: trapezoid_schedule(3, 3, -1.0), "uncertainty is at least 0"),
        (lambda: target_named("score"), "'noise', 'clean', 'v'"),
        (lambda: fused_snr(torch.ones(3), decay=2.0), "decay is in [0, 1]"),
        (lambda: fused_snr(torch.ones(3), clip=math.inf), "clip positive and finite"),
    ],
)
def test_what_cannot_be_is_refused_in_words(wrong, words):
    with pytest.raises(ValueError) as error:
        wrong()
    assert words in str(error.value)


# -- targets -------------------------------------------------------------------------------------------------------


@given(shares, st.sampled_from([(t, False) for t in ON_CIRCLE] + [(t, True) for t in ON_LINE]), seeds)
def test_every_target_gives_back_data_and_noise(share, kind, seed):
    target, is_line = kind
    clean, noise, level = normal(2, 3, seed=seed), normal(2, 3, seed=seed + 1), level_of(share, is_line)
    x, said = diffused(clean, noise, level), target.of(clean, noise, level)
    guess = denoised(target, said, x, level)
    torch.testing.assert_close(guess.clean, clean)
    torch.testing.assert_close(guess.noise, noise)


@given(shares, st.booleans(), st.data(), seeds)
def test_targets_convert_into_each_other_whatever_a_network_says(share, is_line, data, seed):
    kinds = st.sampled_from(ON_LINE if is_line else ON_CIRCLE)
    first, second = data.draw(kinds), data.draw(kinds)
    x, said, level = normal(2, 3, seed=seed), normal(2, 3, seed=seed + 1), level_of(share, is_line)
    guess = denoised(first, said, x, level)
    other = second.of(guess.clean, guess.noise, level)
    again = denoised(second, other, x, level)
    torch.testing.assert_close(first.of(again.clean, again.noise, level), said, rtol=1e-5, atol=1e-5)


@given(shares, st.sampled_from([(t, False) for t in ON_CIRCLE] + [(t, True) for t in ON_LINE]), seeds)
def test_a_targets_error_is_the_datas_by_its_ratio(share, kind, seed):
    target, is_line = kind
    level = level_of(share, is_line)
    x, said, wrong = normal(5, seed=seed), normal(5, seed=seed + 1), normal(5, seed=seed + 2)
    of_clean = (denoised(target, said, x, level).clean - denoised(target, wrong, x, level).clean).square()
    ratio = target.error_ratio(torch.tensor(level.snr, dtype=torch.float64))
    torch.testing.assert_close((said - wrong).square(), ratio * of_clean)


def test_clipped_data_leave_the_noise_that_is_beside_them():
    level, x = AlphaSigma.preserving(0.5), torch.tensor([2.0, 0.1])
    guess = denoised(NoiseTarget(), torch.tensor([0.0, 0.0]), x, level, clip=1.0)
    torch.testing.assert_close(guess.clean, torch.tensor([1.0, 0.1 * 2**0.5]))
    torch.testing.assert_close(diffused(guess.clean, guess.noise, level), x)


# -- levels of rows and of frames ----------------------------------------------------------------------------------


@given(schedules, st.sampled_from([*ON_CIRCLE]), seeds)
def test_one_level_for_every_frame_is_the_ordinary_process(name, target, seed):
    share = alphas_cumprod(SCHEDULES[name](50))
    clean, noise, out = (normal(2, 3, 4, seed=seed + i) for i in range(3))
    number = torch.tensor([seed % 50, 7])
    of_rows, of_frames = (AlphaSigma.preserving(share[k]) for k in (number, number[:, None].expand(2, 3)))
    x = diffused(clean, noise, of_rows)
    assert diffused(clean, noise, of_frames).equal(x)
    assert target.of(clean, noise, of_frames).equal(target.of(clean, noise, of_rows))
    by_rows, by_frames = denoised(target, out, x, of_rows), denoised(target, out, x, of_frames)
    assert by_frames.clean.equal(by_rows.clean) and by_frames.noise.equal(by_rows.noise)
    after = AlphaSigma.preserving(share[number // 2])
    after_frames = AlphaSigma.preserving(share[number // 2][:, None].expand(2, 3))
    assert ddim_step(by_frames, of_frames, after_frames).equal(ddim_step(by_rows, of_rows, after))


# -- samplers ------------------------------------------------------------------------------------------------------


def perfect(clean):
    return lambda x, step: Denoised(clean, (x - step.now.alpha * clean) / step.now.sigma)


@given(schedules, st.integers(1, 12), st.floats(0.0, 1.0), seeds)
def test_ddim_leads_noisy_data_back_whence_they_came(name, steps, eta, seed):
    betas = SCHEDULES[name](60)
    clean, noise = normal(2, 3, seed=seed), normal(2, 3, seed=seed + 1)
    sampler = DDIMSampler(betas, levels_from_clean(60, steps), eta)
    x = diffused(clean, noise, sampler.steps[0].now)
    path = sampler.trajectory(perfect(clean), x, normal(steps, 2, 3, seed=seed + 2))
    assert len(path) == steps + 1
    torch.testing.assert_close(path[-1], clean)
    if eta == 0.0:
        for step, at in zip(sampler.steps, path, strict=False):
            torch.testing.assert_close(at, diffused(clean, noise, step.now))


@given(schedules, st.integers(0, 59), st.integers(0, 59), seeds)
def test_a_step_and_the_step_back_are_the_identity(name, i, j, seed):
    share = alphas_cumprod(SCHEDULES[name](60)).tolist()
    now, after = AlphaSigma.preserving(share[i]), AlphaSigma.preserving(share[j])
    guess = Denoised(normal(4, seed=seed), normal(4, seed=seed + 1))
    there = ddim_step(guess, now, after)
    torch.testing.assert_close(there, diffused(*guess[:2], after))
    torch.testing.assert_close(ddim_step(guess, after, now), diffused(*guess[:2], now))


@given(schedules, st.integers(1, 12), seeds)
def test_the_ancestral_chain_leads_a_perfect_denoiser_to_its_target(name, steps, seed):
    clean = normal(2, 3, seed=seed)
    sampler = AncestralSampler(SCHEDULES[name](60), spaced_levels(60, steps))
    x = sampler.sample(perfect(clean), normal(2, 3), normal(steps, 2, 3, seed=seed + 2))
    torch.testing.assert_close(x, clean)


@given(schedules, st.integers(2, 12), seeds)
def test_ddim_with_all_its_noise_fresh_is_the_ancestral_chain_of_smallest_variance(name, steps, seed):
    betas, levels = SCHEDULES[name](60), spaced_levels(60, steps)
    start, fresh = normal(2, 3, seed=seed), normal(steps, 2, 3, seed=seed + 1)

    def denoise(x, step):
        return denoised(VTarget(), (0.3 * x).sin(), x, step.now)

    ddim = DDIMSampler(betas, levels, eta=1.0).sample(denoise, start, fresh)
    torch.testing.assert_close(AncestralSampler(betas, levels).sample(denoise, start, fresh), ddim)


def gaussian_denoiser(mean, spread):
    """What of x is data on average, for data from a Gaussian; and the noise beside it."""

    def denoise(x, step):
        alpha, sigma = step.now
        clean = mean + alpha * spread**2 / (alpha**2 * spread**2 + sigma**2) * (x - alpha * mean)
        return Denoised(clean, (x - alpha * clean) / sigma)

    return denoise


def reached(sampler, mean, spread):
    """Mean and spread of what is sampled, exactly: it is linear in the noise, one number of which each row has."""
    steps = len(sampler.steps)
    start = torch.zeros(steps + 2, dtype=torch.float64)
    fresh = torch.zeros(steps, steps + 2, dtype=torch.float64)
    start[1] = 1.0
    fresh[torch.arange(steps), torch.arange(steps) + 2] = 1.0
    x = sampler.sample(gaussian_denoiser(mean, spread), start, fresh)
    return float(x[0]), float((x[1:] - x[0]).square().sum().sqrt())


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("kind", ["ddim", "half", "small", "large"])
def test_with_a_gaussians_own_denoiser_that_gaussian_is_reached(name, kind):
    betas, levels = SCHEDULES[name](1000), list(range(1000))
    sampler = {
        "ddim": lambda: DDIMSampler(betas, levels),
        "half": lambda: DDIMSampler(betas, levels, eta=0.5),
        "small": lambda: AncestralSampler(betas, levels),
        "large": lambda: AncestralSampler(betas, levels, variance_share=1.0),
    }[kind]()
    mean, spread = reached(sampler, 0.7, 0.4)
    # What is left of the data at the noisiest level is missing where sampling begins with pure noise.
    assert mean == pytest.approx(0.7, abs=0.02) and spread == pytest.approx(0.4, rel=0.02)


def test_a_flow_leads_to_a_gaussian_too():
    mean, spread = 0.7, 0.4

    def velocity(x, time, step):
        alpha, sigma = 1.0 - time, time
        clean = mean + alpha * spread**2 / (alpha**2 * spread**2 + sigma**2) * (x - alpha * mean)
        return (x - clean) / sigma

    x = EulerFlowSampler(400).sample(velocity, torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert float(x[0]) == pytest.approx(mean) and float(x[1] - x[0]) == pytest.approx(spread, rel=0.01)


@given(st.floats(0.0, 1.0), st.floats(0.05, 1.0), seeds)
def test_eulers_step_is_ddims_on_a_straight_path(after, now, seed):
    x, said = normal(5, seed=seed), normal(5, seed=seed + 1)
    level = AlphaSigma.flow(now)
    moved = ddim_step(denoised(VelocityTarget(), said, x, level), level, AlphaSigma.flow(after))
    torch.testing.assert_close(moved, x + (after - now) * said)
    back = denoised(ReversedVelocityTarget(), -said, x, level)
    torch.testing.assert_close(ddim_step(back, level, AlphaSigma.flow(after)), moved)


@given(schedules, st.integers(1, 59))
def test_a_step_between_any_levels_agrees_with_the_table_of_neighbours(name, level):
    betas = SCHEDULES[name](60)
    share, table = alphas_cumprod(betas), reverse_steps(betas)
    step = reverse_step(*(AlphaSigma.preserving(share[k]) for k in (level, level - 1)))
    row = (table.of_noisy, table.of_clean, table.log_small.exp(), table.log_large.exp())
    for ours, column in zip(step, row, strict=True):
        torch.testing.assert_close(ours, column[level])


# -- weights -------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0.01, 100.0), min_size=1, max_size=6))
def test_a_first_frame_has_no_past_to_fuse_and_a_past_that_is_forgotten_changes_nothing(values):
    snr = torch.tensor(values, dtype=torch.float64)
    fused, alone = fused_snr(snr), clipped_snr(snr)
    torch.testing.assert_close(fused.clipped[0], alone.clipped[0])
    assert bool((fused.clipped >= alone.clipped - 1e-9).all()) and bool((fused.clipped <= 5.0 + 1e-9).all())
    forgotten = fused_snr(snr, decay=0.0)
    torch.testing.assert_close(torch.stack(forgotten), torch.stack(alone))


def test_the_datas_weight_without_a_clip_is_the_ratio_and_the_noises_one():
    snr = torch.tensor([0.1, 3.0, 50.0])
    kept = clipped_snr(snr, math.inf)
    assert snr_weight(CleanTarget(), kept).equal(snr) and snr_weight(NoiseTarget(), kept).equal(torch.ones(3))


# -- learned variance ----------------------------------------------------------------------------------------------


@given(shares, seeds)
def test_bits_are_none_for_the_truth_and_what_a_gaussian_spends_else(share, seed):
    betas = linear_betas(1000)
    level = torch.tensor([1 + seed, 500])
    clean, noise = normal(2, 3, seed=seed), normal(2, 3, seed=seed + 1)
    x = diffused(clean, noise, AlphaSigma.preserving(alphas_cumprod(betas)[level]))
    rows = type(reverse_steps(betas))(*(column[level] for column in reverse_steps(betas)))
    exact = variational_bound(clean, x, Denoised(clean, noise), rows, level == 0)
    torch.testing.assert_close(exact, torch.zeros_like(exact))
    wider = variational_bound(clean, x, Denoised(clean, noise, torch.full_like(x, share)), rows, level == 0)
    gap = share * (rows.log_large - rows.log_small)
    torch.testing.assert_close(wider, (0.5 * (gap - 1 + (-gap).exp()) / math.log(2))[:, None].expand(2, 3))


def test_a_guess_of_the_variance_begins_in_the_middle():
    assert variance_share(torch.tensor([-1.0, 0.0, 1.0])).tolist() == [0.0, 0.5, 1.0]


@given(st.floats(-1.2, 1.2), st.floats(-8.0, 0.0))
def test_the_256_levels_take_all_of_a_gaussian(mean, log_variance):
    grid = torch.linspace(-1.0, 1.0, 256, dtype=torch.float64)
    bits = discretized_gaussian_bits(grid, torch.full_like(grid, mean), torch.full_like(grid, log_variance))
    assert float((2.0**-bits).sum()) == pytest.approx(1.0, abs=1e-5)


@given(st.floats(-3.0, 3.0), st.floats(-2.0, 2.0), st.floats(-2.0, 2.0))
def test_bits_between_gaussians_are_torchs(mean, first, second):
    p, q = (torch.distributions.Normal(m, math.exp(0.5 * v)) for m, v in ((0.0, first), (mean, second)))
    ours = gaussian_kl_bits(*(torch.tensor(x) for x in (0.0, first, mean, second)))
    expected = torch.distributions.kl_divergence(p, q) / math.log(2)
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-5)


# -- guidance ------------------------------------------------------------------------------------------------------


@given(st.floats(-3.0, 9.0), seeds)
def test_guidance_of_one_is_none_and_of_zero_the_output_without_the_condition(scale, seed):
    told, untold, nothing = normal(2, 5, 3, seed=seed), normal(2, 5, 3, seed=seed + 1), normal(2, 5, 3, seed=seed + 2)
    torch.testing.assert_close(classifier_free(told, untold, 1.0), told)
    torch.testing.assert_close(classifier_free(told, untold, 0.0), untold)
    torch.testing.assert_close(three_way(told, untold, nothing, 1.0, 1.0), told)
    torch.testing.assert_close(three_way(told, untold, untold, scale, 7.0), classifier_free(told, untold, scale))
    some = classifier_free(told, untold, scale, channels=2)
    assert some[:, 2:].equal(told[:, 2:])
    torch.testing.assert_close(some[:, :2], classifier_free(told, untold, scale)[:, :2])
    of_rows = classifier_free(told, untold, torch.tensor([1.0, scale]).double()[:, None, None])
    torch.testing.assert_close(of_rows[0], told[0])


# -- scheduling matrices -------------------------------------------------------------------------------------------

MATRICES = {
    "pyramid": pyramid_schedule,
    "trapezoid": trapezoid_schedule,
    "full_sequence": lambda frames, steps, _: full_sequence_schedule(frames, steps),
    "autoregressive": lambda frames, steps, _: autoregressive_schedule(frames, steps),
}


@given(st.sampled_from(sorted(MATRICES)), st.integers(1, 7), st.integers(1, 7), st.floats(0.0, 1.0))
def test_every_frame_goes_from_noise_to_clean_a_step_at_a_time(name, frames, steps, wait):
    matrix = MATRICES[name](frames, steps, wait * steps)
    assert matrix.shape[1] == frames and matrix[0].eq(steps).all() and matrix[-1].eq(0).all()
    falls = matrix[:-1] - matrix[1:]
    assert bool(((falls == 0) | (falls == 1)).all()) and bool((falls.sum(1) > 0).all())


@given(st.integers(1, 7), st.integers(1, 7))
def test_autoregressive_frames_wait_for_each_other_and_a_flat_pyramid_is_the_full_sequence(frames, steps):
    matrix = autoregressive_schedule(frames, steps)
    assert bool((((matrix > 0) & (matrix < steps)).sum(1) <= 1).all())
    assert pyramid_schedule(frames, steps, 0.0).equal(full_sequence_schedule(frames, steps))


# -- context, time -------------------------------------------------------------------------------------------------


def test_clean_frames_are_shown_as_the_papers_show_them():
    level, frames, noise = AlphaSigma.preserving(torch.tensor([0.64, 1.0])), torch.ones(2, 3), torch.full((2, 3), 2.0)
    assert UntouchedContext(14).shown(frames, level, noise).equal(frames)
    torch.testing.assert_close(ScaledContext(14).shown(frames, level, noise)[:, 0], torch.tensor([0.8, 1.0]))
    torch.testing.assert_close(NoisedContext(14).shown(frames, level, noise)[:, 0], torch.tensor([2.0, 1.0]))
    assert NoisedContext(14).shown(frames, level).equal(ScaledContext(14).shown(frames, level))
    assert [kind(3).uses_noise for kind in (UntouchedContext, ScaledContext, NoisedContext)] == [False, False, True]


@given(st.floats(0.01, 0.99), st.floats(0.1, 20.0))
def test_a_shift_multiplies_the_odds_of_noise(time, shift):
    shifted = shifted_time(time, shift)
    assert shifted / (1 - shifted) == pytest.approx(shift * time / (1 - time))
    assert shifted_time(0.0, shift) == 0.0 and shifted_time(1.0, shift) == pytest.approx(1.0)


def test_times_to_train_at_crowd_in_the_middle():
    assert logit_normal_time(torch.tensor([0.0])).item() == 0.5
    assert logit_normal_time(torch.tensor([1.0]), loc=1.0, scale=2.0).item() == pytest.approx(1 / (1 + math.exp(-3)))


@given(kind=GIVEN_FRAMES, frames=st.integers(2, 20), seed=seeds)
def test_given_frames_are_of_the_kind_that_is_asked_for(kind, frames, seed):
    generator = torch.Generator().manual_seed(seed)
    shares = [float(one == kind) for one in GIVEN]
    draw = [torch.rand(shape, generator=generator) for shape in ((64,), (64, 2), (64, frames))]
    given_here = given_frames(shares, *draw)
    count, most = given_here.sum(1), max(frames // 4, 1)
    steps = (given_here[:, 1:] != given_here[:, :-1]).sum(1)
    if kind == "past":
        assert bool(given_here[:, 0].all()) and bool((steps == 1).all()) and int(count.max()) < frames
    elif kind == "random":
        assert frames < 4 or 0.1 < float(given_here.float().mean()) < 0.9
    elif kind == "interpolate":
        assert bool((given_here[:, 1:] != given_here[:, :-1]).all())
    else:
        most = 1 if kind.startswith("image") else most
        sides = 2 if kind.endswith("head_tail") else 1
        assert bool((count >= 1).all()) and int(count.max()) <= sides * most and bool((steps <= 2).all())
        assert "head" not in kind or bool(given_here[:, 0].all())
        assert "tail" not in kind or bool(given_here[:, -1].all())
    assert not given_frames([0.0] * len(GIVEN), *draw).any()


def test_kinds_of_given_frames_are_drawn_as_often_as_they_are_to_be():
    torch.manual_seed(0)
    shares = [0.25 * (kind in ("image_head", "image_tail")) for kind in GIVEN]
    found = given_frames(shares, torch.rand(4000), torch.rand(4000, 2), torch.rand(4000, 3)).float().mean(0)
    torch.testing.assert_close(found, torch.tensor([0.25, 0.0, 0.25]), atol=0.03, rtol=0)
    with pytest.raises(ValueError, match="at most 1 together"):
        given_frames([0.5] * len(GIVEN), torch.rand(1), torch.rand(1, 2), torch.rand(1, 3))
