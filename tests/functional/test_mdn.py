"""Laws of the mixtures of Gaussians."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from wmcomponents.functional import (
    mixture_component,
    mixture_log_prob,
    sample_mixture,
    sample_vector_mixture,
    vector_mixture_log_prob,
)

SEEDS, COUNTS = st.integers(0, 10_000), st.integers(1, 6)


def parameters(seed, k, *shape, dtype=torch.float64):
    """Logits ``[2, k]``, and means and log standard deviations ``[2, k, *shape]``."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, k, generator=generator, dtype=dtype)
    mean = torch.randn(2, k, *shape, generator=generator, dtype=dtype)
    return logits, mean, 0.5 * torch.randn(2, k, *shape, generator=generator, dtype=dtype)


@given(SEEDS, COUNTS)
def test_the_density_of_a_number_integrates_to_one(seed, k):
    grid = torch.linspace(-30, 30, 60_001, dtype=torch.float64)
    logits, mean, log_std = (value[0].expand(len(grid), k) for value in parameters(seed, k))
    density = mixture_log_prob(logits, mean, log_std, grid).exp()
    assert torch.trapezoid(density, grid).item() == pytest.approx(1.0, abs=1e-4)


@given(SEEDS, COUNTS)
def test_densities_are_those_of_torch_distributions(seed, k):
    logits, mean, log_std = parameters(seed, k, 3)
    value = torch.randn(2, 3, dtype=torch.float64)
    whole = MixtureSameFamily(Categorical(logits=logits), Independent(Normal(mean, log_std.exp()), 1))
    torch.testing.assert_close(vector_mixture_log_prob(logits, mean, log_std, value), whole.log_prob(value))
    each = MixtureSameFamily(Categorical(logits=logits), Normal(mean[..., 0], log_std[..., 0].exp()))
    number = mixture_log_prob(logits, mean[..., 0], log_std[..., 0], value[:, 0])
    torch.testing.assert_close(number, each.log_prob(value[:, 0]))


@given(SEEDS, COUNTS, st.floats(-50, 50))
def test_the_order_of_the_components_and_a_shift_of_the_logits_mean_nothing(seed, k, shift):
    logits, mean, log_std = parameters(seed, k, 3)
    value, order = torch.randn(2, 3, dtype=torch.float64), torch.randperm(k)
    expected = vector_mixture_log_prob(logits, mean, log_std, value)
    permuted = vector_mixture_log_prob(logits[:, order] + shift, mean[:, order], log_std[:, order], value)
    torch.testing.assert_close(permuted, expected)


@given(SEEDS, COUNTS)
def test_a_vector_of_one_number_has_the_density_of_the_number(seed, k):
    logits, mean, log_std = parameters(seed, k)
    value = torch.randn(2, dtype=torch.float64)
    vector = vector_mixture_log_prob(logits, mean.unsqueeze(-1), log_std.unsqueeze(-1), value.unsqueeze(-1))
    torch.testing.assert_close(vector, mixture_log_prob(logits, mean, log_std, value))


@given(SEEDS, COUNTS, st.floats(0.1, 3.0))
def test_without_noise_a_sample_is_the_mean_of_the_likeliest_component_at_any_temperature(seed, k, temperature):
    logits, mean, log_std = parameters(seed, k)
    best = mean.gather(-1, logits.argmax(-1, keepdim=True)).squeeze(-1)
    assert torch.equal(sample_mixture(logits, mean, log_std, None, None, temperature), best)
    vector = sample_vector_mixture(logits, mean[..., None], log_std[..., None], None, None, temperature)
    assert torch.equal(vector.squeeze(-1), best)


@given(SEEDS, COUNTS)
def test_as_the_temperature_falls_to_zero_samples_fall_to_the_mode(seed, k):
    logits, mean, log_std = parameters(seed, k)
    noise, normal = torch.rand(2), torch.randn(2, dtype=torch.float64)
    cold = sample_mixture(logits, mean, log_std, noise, normal, 1e-10)
    torch.testing.assert_close(cold, sample_mixture(logits, mean, log_std, None, None), rtol=0, atol=1e-3)


def test_the_temperature_divides_the_logits_and_its_root_multiplies_the_spread():
    logits, mean, log_std = torch.tensor([0.0, 2.0]), torch.tensor([10.0, 20.0]), torch.tensor([0.0, math.log(3.0)])
    edge = 1.0 / (1.0 + math.exp(2.0 / 4.0))  # probability of the first component at temperature 4
    for noise, component in ((edge - 1e-3, 0), (edge + 1e-3, 1)):
        assert mixture_component(logits, torch.tensor(noise), 4.0).item() == component
        drawn = sample_mixture(logits, mean, log_std, torch.tensor(noise), torch.tensor(0.5), 4.0)
        assert drawn.item() == pytest.approx([10.0, 20.0][component] + [1.0, 3.0][component] * 2.0 * 0.5)


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_samples_are_distributed_as_the_density_says(temperature):
    generator = torch.Generator().manual_seed(0)
    logits, mean, log_std = torch.tensor([0.0, 1.0, -1.0]), torch.tensor([-4.0, 0.0, 5.0]), torch.tensor([0.0, -1, 0.5])
    count = 100_000
    uniform, normal = torch.rand(count, generator=generator), torch.randn(count, generator=generator)
    drawn = sample_mixture(*(v.expand(count, 3) for v in (logits, mean, log_std)), uniform, normal, temperature)
    spread = log_std.exp() * math.sqrt(temperature)
    truth = MixtureSameFamily(Categorical(logits=logits / temperature), Normal(mean, spread))
    for edge in (-4.0, -2.0, 0.0, 0.3, 4.0):
        assert (drawn < edge).double().mean().item() == pytest.approx(truth.cdf(torch.tensor(edge)).item(), abs=0.006)


def test_all_numbers_of_a_vector_come_from_one_component():
    logits, log_std = torch.zeros(1000, 2), torch.full((1000, 2, 3), -20.0)
    mean = torch.stack([torch.zeros(3), torch.ones(3)]).expand(1000, 2, 3)
    drawn = sample_vector_mixture(logits, mean, log_std, torch.rand(1000), torch.randn(1000, 3))
    sums = drawn.sum(-1).round()
    assert set(sums.tolist()) == {0.0, 3.0} and 400 < (sums == 3).sum() < 600


def test_samples_carry_the_gradient_of_the_chosen_component():
    logits = torch.tensor([0.0, 5.0], requires_grad=True)
    mean, log_std = torch.zeros(2, requires_grad=True), torch.zeros(2, requires_grad=True)
    sample_mixture(logits, mean, log_std, torch.tensor(0.9), torch.tensor(2.0)).backward()
    assert torch.equal(mean.grad, torch.tensor([0.0, 1.0])) and torch.equal(log_std.grad, torch.tensor([0.0, 2.0]))
