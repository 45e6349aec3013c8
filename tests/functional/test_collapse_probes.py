"""Probes of collapse: closed forms and laws."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wmcomponents.functional import (
    channel_std,
    effective_rank,
    mean_abs_correlation,
    participation_ratio,
    rankme,
    stable_rank,
    unexplained_variance,
)

SEEDS = st.integers(0, 2**16)


def with_singular_values(values: list[float], samples: int = 12) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    left = torch.linalg.qr(torch.randn(samples, len(values), generator=generator, dtype=torch.float64))[0]
    right = torch.linalg.qr(torch.randn(len(values), len(values), generator=generator, dtype=torch.float64))[0]
    return left * torch.tensor(values, dtype=torch.float64) @ right


@pytest.mark.parametrize(
    "values,rank",
    [([1.0] * 5, 5.0), ([2.0, 0, 0, 0, 0], 1.0), ([3.0, 3.0, 0], 2.0), ([3.0, 1.0], math.exp(0.5623351446))],
)
def test_effective_rank_is_that_of_the_closed_forms(values, rank):
    x = with_singular_values(values)
    assert float(effective_rank(x)) == pytest.approx(rank, rel=1e-6)
    assert float(rankme(x)) == pytest.approx(rank, rel=1e-5)


def test_participation_ratio_is_that_of_the_eigenvalues_of_the_covariance():
    axes = torch.eye(2, dtype=torch.float64)
    x = torch.cat([3 * axes[:1], -3 * axes[:1], axes[1:], -axes[1:]])  # variances in the ratio of 9 to 1
    assert float(participation_ratio(x)) == pytest.approx(100 / 82)
    assert float(participation_ratio(1e-9 * x.float())) == pytest.approx(100 / 82)
    assert float(participation_ratio(torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]]))) == pytest.approx(1.0)


@given(samples=st.integers(2, 8), channels=st.integers(1, 8), seed=SEEDS)
def test_participation_ratio_is_the_same_by_either_gram_matrix(samples, channels, seed):
    x = torch.randn(samples, channels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    values = torch.linalg.eigvalsh(torch.cov(x.T).reshape(channels, channels))
    assert float(participation_ratio(x)) == pytest.approx(float(values.sum() ** 2 / values.square().sum()))


def test_stable_rank_counts_the_singular_values_that_are_needed():
    x = with_singular_values([90.0, 9.5, 0.4, 0.1])
    assert [int(stable_rank(x, delta)) for delta in (0.2, 0.01, 0.003, 0.0)] == [1, 2, 3, 4]


@given(seed=SEEDS, scale=st.sampled_from([1e-6, 1.0, 1e5]))
def test_ranks_do_not_depend_on_scale_or_rotation(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(9, 4, generator=generator, dtype=torch.float64)
    turned = scale * x @ torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64))[0]
    for probe in (effective_rank, rankme, participation_ratio, stable_rank):
        torch.testing.assert_close(probe(turned), probe(x))


@pytest.mark.parametrize("probe", [effective_rank, participation_ratio, stable_rank, channel_std])
def test_nothing_at_all_has_rank_and_spread_zero(probe):
    assert float(probe(torch.zeros(4, 3))) == 0.0


def test_spread_is_the_mean_standard_deviation_of_the_channels():
    assert float(channel_std(torch.tensor([[0.0, 1.0], [2.0, 1.0]]))) == pytest.approx(math.sqrt(2) / 2)


def test_correlation_is_one_of_copies_and_nothing_of_constants():
    x = torch.randn(50, 1, generator=torch.Generator().manual_seed(0))
    assert float(mean_abs_correlation(torch.cat([x, -3 * x], 1))) == pytest.approx(1.0)
    assert float(mean_abs_correlation(torch.cat([x, torch.ones(50, 1)], 1))) == 0.0
    square = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert float(mean_abs_correlation(square)) == 0.0


def test_error_is_measured_in_the_variance_of_the_targets():
    target = torch.tensor([[0.0, 2.0], [2.0, -2.0]])
    assert float(unexplained_variance(target.mean(0).expand_as(target), target)) == pytest.approx(1.0)
    assert float(unexplained_variance(target, target)) == 0.0
    assert float(unexplained_variance(1e-3 * target + 1e-4, 1e-3 * target)) > 1e-3
    assert float(unexplained_variance(torch.ones(3, 2), torch.zeros(3, 2))) == math.inf


@pytest.mark.parametrize("x", [torch.zeros(3), torch.zeros(2, 3, 4), torch.zeros(1, 4), torch.zeros(4, 0)])
def test_other_shapes_are_refused_with_a_remedy(x):
    for probe in (channel_std, participation_ratio, mean_abs_correlation):
        with pytest.raises(ValueError, match="flatten batch and time"):
            probe(x)


def test_lone_channels_unlike_shapes_and_shares_beyond_one_are_refused():
    with pytest.raises(ValueError, match="pairs of channels"):
        mean_abs_correlation(torch.zeros(3, 1))
    with pytest.raises(ValueError, match="one shape"):
        unexplained_variance(torch.zeros(3, 2), torch.zeros(3, 1))
    with pytest.raises(ValueError, match="delta"):
        stable_rank(torch.zeros(3, 2), 1.0)
