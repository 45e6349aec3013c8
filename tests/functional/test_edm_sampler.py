"""The samplers, independent of any network."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wmcomponents.functional import EDMSampler

steps = st.integers(1, 12)
orders = st.sampled_from([1, 2])


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(steps, orders, st.sampled_from([0.0, 2.0, 100.0]))
def test_a_perfect_denoiser_is_led_to_its_target(count, order, churn):
    target = noise(2, 5, seed=1)
    sampler = EDMSampler(steps=count, order=order, s_churn=churn)
    path = sampler.trajectory(lambda x, sigma, step: target, noise(2, 5), noise(count, 2, 5, seed=2))
    assert len(path) == count + 1
    torch.testing.assert_close(path[-1], target)


@given(steps, orders)
def test_the_sampler_asks_at_the_levels_of_the_schedule_once_or_twice_a_step(count, order):
    asked = []
    sampler = EDMSampler(steps=count, order=order)
    sampler.sample(lambda x, sigma, step: asked.append((sigma, step)) or x, noise(1))
    levels = sampler.sigmas()
    assert [sigma for sigma, _ in asked if sigma > 0] == [sigma for sigma, _ in asked]
    expected = [(levels[0], 0)]
    for i in range(1, count):
        expected += [(levels[i], i - 1), (levels[i], i)] if order == 2 else [(levels[i], i)]
    assert asked == expected


def test_euler_follows_the_ode_of_normal_data_and_heun_follows_it_closer():
    # For data N(0, s^2) the ideal denoiser is linear, and the ODE's solution is known.
    spread, start = 0.5, noise(4)

    def ideal(x, sigma, step):
        return x * spread**2 / (spread**2 + sigma**2)

    exact = start * spread / math.sqrt(spread**2 + 25.0)
    errors = [float((EDMSampler(steps=40, order=order).sample(ideal, start) - exact).abs().max()) for order in (1, 2)]
    assert errors[1] < errors[0] / 4 < 0.05


def test_churn_asks_at_sigma_and_not_at_the_raised_level():
    asked, seen = [], []
    sampler = EDMSampler(steps=2, sigma_min=1.0, s_churn=10.0)
    eps = torch.ones(2, 3, dtype=torch.float64)

    def denoise(x, sigma, step):
        asked.append(sigma)
        seen.append(x)
        return torch.zeros_like(x)

    x = torch.zeros(3, dtype=torch.float64)
    sampler.sample(denoise, x, eps)
    assert asked == sampler.sigmas()[:-1]
    # gamma is at its most, sqrt(2) - 1: the raised level's square is twice that of sigma.
    torch.testing.assert_close(seen[0], torch.full_like(x, asked[0]), rtol=1e-6, atol=1e-6)


def test_churn_stays_within_its_levels_ends_included():
    within = EDMSampler(steps=10, sigma_min=1.0, sigma_max=5.0, s_churn=10.0, s_tmin=1.0, s_tmax=5.0)
    assert within.gammas() == [math.sqrt(2.0) - 1.0] * 10 and within.churns
    some = EDMSampler(steps=10, sigma_min=1.0, sigma_max=5.0, s_churn=1.0, s_tmin=2.0, s_tmax=4.0)
    assert {bool(g) == (2.0 <= s <= 4.0) for g, s in zip(some.gammas(), some.sigmas(), strict=False)} == {True}
    assert max(some.gammas()) == pytest.approx(0.1)
    assert not EDMSampler(s_churn=1.0, s_tmin=50.0, s_tmax=60.0).churns


def test_the_first_x_is_the_noise_as_it_is():
    x = noise(3)
    assert torch.equal(EDMSampler().trajectory(lambda x, sigma, step: x, x)[0], x)


@pytest.mark.parametrize("options", [{"steps": 0}, {"order": 3}, {"s_churn": -1.0}, {"s_cond": -1.0}])
def test_samplers_that_cannot_be_are_refused(options):
    with pytest.raises(ValueError):
        EDMSampler(**options)


def test_equal_samplers_are_equal():
    assert EDMSampler(steps=4) == EDMSampler(steps=4) != EDMSampler(steps=5)
