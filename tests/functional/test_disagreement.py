"""How far apart an ensemble's predictions lie."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wmcomponents.functional import ensemble_std, ensemble_variance, max_aleatoric_std, max_pairwise_distance

OF_MEANS = (ensemble_variance, ensemble_std, max_pairwise_distance)


def test_the_measures_are_those_worked_out_by_hand():
    mean = torch.tensor([[0.0, 0.0], [3.0, 4.0], [3.0, 0.0]])
    torch.testing.assert_close(ensemble_variance(mean), torch.tensor((2.0 + 32 / 9) / 2))
    torch.testing.assert_close(ensemble_std(mean), torch.tensor((2.0**0.5 + (32 / 9) ** 0.5) / 2))
    torch.testing.assert_close(max_pairwise_distance(mean), torch.tensor(5.0))
    torch.testing.assert_close(max_aleatoric_std(torch.tensor([[0.6, 0.8], [0.3, 0.0]])), torch.tensor(1.0))


@pytest.mark.parametrize("measure", OF_MEANS)
@given(
    members=st.integers(1, 5), dims=st.integers(1, 4), seed=st.integers(0, 2**16), scale=st.sampled_from([1e-3, 1, 1e4])
)
def test_equal_members_disagree_by_nothing_and_order_does_not_matter(measure, members, dims, seed, scale):
    generator = torch.Generator().manual_seed(seed)
    mean = scale * torch.randn(2, 3, members, dims, generator=generator)
    equal = mean[..., :1, :].expand_as(mean)
    assert measure(mean).shape == (2, 3)
    # Of five equal numbers the mean may differ in its last bit.
    assert measure(equal).max() <= 1e-6 * scale * (scale if measure is ensemble_variance else 1)
    torch.testing.assert_close(measure(mean.flip(-2)), measure(mean))
    if members > 1:
        assert (measure(mean) > 0).all()


def test_a_distance_is_exactly_zero_where_members_agree():
    mean = torch.full((7, 3, 2), 1234.567)
    assert not max_pairwise_distance(mean).any()
