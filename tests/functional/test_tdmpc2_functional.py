"""Laws of the squashed Gaussian, of the range of percentiles, of discounts and of shifted images."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wmcomponents.functional import (
    bounded_log_std,
    episode_discount,
    even_bins,
    noise_log_prob,
    percentile_range,
    shifted_images,
    tanh_log_slope,
)


@given(st.floats(-50, 50))
def test_the_deviation_stays_in_its_bounds(raw):
    assert -10 <= float(bounded_log_std(torch.tensor(raw))) <= 2


@given(st.floats(-2, 2), st.floats(-1.5, 0.5), st.floats(-2, 2))
def test_the_density_after_squashing_is_that_of_torchs_transformed_normal(mean, log_std, noise):
    mean, log_std, noise = (torch.tensor([value], dtype=torch.float64) for value in (mean, log_std, noise))
    action = torch.tanh(mean + noise * log_std.exp())
    normal = torch.distributions.Normal(mean, log_std.exp())
    reference = torch.distributions.TransformedDistribution(normal, torch.distributions.TanhTransform(cache_size=1))
    if float(action.abs()) < 0.99:
        found = noise_log_prob(noise, log_std) - tanh_log_slope(action)
        torch.testing.assert_close(found, reference.log_prob(action).sum(-1), rtol=1e-3, atol=1e-3)


def test_a_squashed_action_at_its_bound_has_a_finite_density():
    assert tanh_log_slope(torch.ones(3)).isfinite()


@given(st.integers(1, 100_000), st.integers(1, 100_000))
def test_longer_episodes_have_no_smaller_discount(one, other):
    short, long = sorted((one, other))
    assert 0.95 <= episode_discount(short) <= episode_discount(long) <= 0.995


def test_an_episode_without_steps_has_no_discount():
    with pytest.raises(ValueError, match="at least one step"):
        episode_discount(0)


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=40))
def test_the_range_of_percentiles_is_that_of_quantile(values):
    x = torch.tensor(values)
    expected = torch.quantile(x, 0.95) - torch.quantile(x, 0.05)
    torch.testing.assert_close(percentile_range(x), expected)
    padded, counts = torch.cat([x, torch.full((3,), 1e9)]), torch.tensor([True] * len(values) + [False] * 3)
    torch.testing.assert_close(percentile_range(padded, counts), expected)


def test_the_range_of_nothing_is_not_a_number():
    assert percentile_range(torch.ones(3), torch.zeros(3, dtype=torch.bool)).isnan()


@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 1000))
def test_shifted_images_are_cut_out_of_padded_ones(x, y, seed):
    images = torch.randint(256, (2, 9, 7, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    padded = torch.nn.functional.pad(images.permute(0, 3, 1, 2).float(), (3, 3, 3, 3), mode="replicate")
    expected = padded[:, :, y : y + 9, x : x + 7].permute(0, 2, 3, 1).to(torch.uint8)
    assert torch.equal(shifted_images(images, torch.tensor([[x, y], [x, y]])), expected)
    assert torch.equal(shifted_images(images[0], torch.tensor([x, y])), expected[0])
    assert torch.equal(shifted_images(images, torch.full((2, 2), 3)), images)


@given(st.integers(2, 200), st.floats(0.1, 50))
def test_even_bins_are_even_and_symmetric_to_the_last_bit(count, limit):
    bins = even_bins(count, limit)
    assert torch.equal(bins, -bins.flip(0)) and len(bins) == count
    torch.testing.assert_close(bins.diff(), torch.full((count - 1,), 2 * limit / (count - 1)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("count", "limit"), [(1, 1.0), (3, 0.0)])
def test_bins_need_two_ends_and_a_limit(count, limit):
    with pytest.raises(ValueError, match="at least 2 bins"):
        even_bins(count, limit)
