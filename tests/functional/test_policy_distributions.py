"""Distributions of continuous actions: against the papers' code, and their laws."""

import math

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from tests.support.golden_vectors import load
from wmcomponents.functional import (
    tanh_normal_log_prob,
    tanh_normal_sample,
    truncated_normal_entropy,
    truncated_normal_log_prob,
    truncated_normal_mean,
    truncated_normal_mode,
    truncated_normal_sample,
)
from wmcomponents.functional.distributions.tanh_normal import smoothed_tanh_normal_log_prob, tanh_normal
from wmcomponents.functional.distributions.truncated_normal import truncated_normal

LOC, SCALE = st.floats(-0.999, 0.999), st.floats(0.1, 2.1)


def test_dreamers_action_distribution_agrees_with_its_code():
    info, tensors = load("v1_action_decoder_tanh_normal")
    c, x = info["config"], tensors["in/x"]
    for layer in range(c["layers"]):
        x = F.elu(x @ tensors[f"w/h{layer}/kernel"] + tensors[f"w/h{layer}/bias"])
    raw = x @ tensors["w/hout/kernel"] + tensors["w/hout/bias"]
    mean, std = tanh_normal(*raw.chunk(2, -1), *(float(c[name]) for name in ("init_std", "mean_scale", "min_std")))
    torch.testing.assert_close(mean, tensors["out/mean"], **info["tolerance"])
    torch.testing.assert_close(std, tensors["out/std"], **info["tolerance"])
    log_prob = tanh_normal_log_prob(tensors["in/action"], mean, std)
    torch.testing.assert_close(log_prob, tensors["out/log_prob"], **info["tolerance"])


def test_dreamer_v2s_action_distribution_agrees_with_its_code():
    info, tensors = load("v2_trunc_normal")
    loc, scale = tensors["in/mean_raw"].tanh(), tensors["in/std"]
    actual = {
        "log_prob": truncated_normal_log_prob(tensors["in/action"], loc, scale),
        "mean": truncated_normal_mean(loc, scale),
        "mode": truncated_normal_mode(loc, scale),
        "entropy": truncated_normal_entropy(loc, scale),
    }
    for key, value in actual.items():
        torch.testing.assert_close(value, tensors[f"out/{key}"], **info["tolerance"], msg=lambda m, k=key: f"{k}: {m}")


def test_a_raw_output_of_zero_is_the_initial_distribution():
    mean, std = tanh_normal(torch.zeros(2), torch.zeros(2))
    assert mean.eq(0).all() and torch.allclose(std, torch.tensor(5.0001))
    loc, scale = truncated_normal(torch.zeros(2), torch.zeros(2))
    assert loc.eq(0).all() and torch.allclose(scale, torch.tensor(1.1))


def test_the_ends_have_a_finite_tanh_normal_density():
    for action in (torch.ones(1, 2), -torch.ones(1, 2)):
        assert tanh_normal_log_prob(action, torch.zeros(1, 2), torch.ones(1, 2)).isfinite().all()


@given(st.floats(-2, 2), st.floats(0.2, 2))
def test_a_tanh_normals_density_integrates_to_one(mean, std):
    x = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    actions = torch.tanh(x * std + mean)
    density = tanh_normal_log_prob(actions[:, None], torch.full((1, 1), mean), torch.full((1, 1), std)).exp()
    inside = actions.abs() < 1 - 1e-9
    assert math.isclose(torch.trapezoid(density[inside], actions[inside]).item(), 1.0, abs_tol=1e-3)


@given(LOC, SCALE)
def test_a_truncated_normals_moments_are_those_of_its_density(loc, scale):
    loc, scale = torch.tensor([loc], dtype=torch.float64), torch.tensor([scale], dtype=torch.float64)
    x = torch.linspace(-1, 1, 20001, dtype=torch.float64)
    log_prob = truncated_normal_log_prob(x, loc, scale)
    density = log_prob.exp()
    assert math.isclose(torch.trapezoid(density, x).item(), 1.0, abs_tol=1e-4)
    torch.testing.assert_close(torch.trapezoid(density * x, x), truncated_normal_mean(loc, scale)[0], atol=1e-4, rtol=0)
    entropy = torch.trapezoid(-density * log_prob, x)
    torch.testing.assert_close(entropy, truncated_normal_entropy(loc, scale)[0], atol=1e-3, rtol=0)
    mode = truncated_normal_mode(loc, scale)
    assert (truncated_normal_log_prob(mode, loc, scale) >= log_prob.max() - 1e-6).all()


@given(LOC, SCALE, st.floats(0, 0.999))
def test_the_noise_is_the_share_of_a_truncated_normal_below_its_sample(loc, scale, noise):
    loc, scale = torch.tensor([loc], dtype=torch.float64), torch.tensor([scale], dtype=torch.float64)
    value = truncated_normal_sample(loc, scale, torch.tensor([noise], dtype=torch.float64))
    assert value.abs() < 1
    x = torch.linspace(-1, value.item(), 5001, dtype=torch.float64)
    below = torch.trapezoid(truncated_normal_log_prob(x, loc, scale).exp(), x)
    assert math.isclose(below.item(), noise, abs_tol=1e-3)


def test_samples_carry_gradients_even_at_the_ends():
    loc = torch.full((3,), 0.99).requires_grad_()
    scale = torch.full((3,), 0.1).requires_grad_()
    noise = torch.tensor([0.0, 0.5, 0.9999999])
    truncated_normal_sample(loc, scale, noise).sum().backward()
    assert loc.grad.isfinite().all() and loc.grad[1] > 0 and scale.grad.isfinite().all()
    mean = torch.zeros(3, requires_grad=True)
    tanh_normal_sample(mean, torch.ones(3), torch.tensor([-1.0, 0.0, 1.0])).sum().backward()
    assert mean.grad.gt(0).all()


def test_outside_the_unit_interval_there_is_no_truncated_density():
    assert truncated_normal_log_prob(torch.tensor([1.1]), torch.zeros(1), torch.ones(1)).item() == -torch.inf


def test_the_two_slopes_of_a_tanh_normal_agree_inside_and_part_at_its_ends():
    mean, std = torch.tensor([[0.3]]), torch.tensor([[0.7]])
    inside, near = torch.linspace(-0.95, 0.95, 39)[:, None], torch.tensor([[0.999999]])
    exact, smoothed = (f(inside, mean, std) for f in (tanh_normal_log_prob, smoothed_tanh_normal_log_prob))
    torch.testing.assert_close(exact, smoothed, rtol=1e-5, atol=2e-5)
    assert tanh_normal_log_prob(near, mean, std) - smoothed_tanh_normal_log_prob(near, mean, std) > 0.3
