"""Laws of the maths, for any numbers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wmcomponents.functional import (
    balanced_kl,
    bernoulli_cross_entropy,
    categorical_cross_entropy,
    categorical_entropy,
    categorical_kl,
    free_nats,
    gaussian_entropy,
    gaussian_kl,
    gaussian_log_prob,
    inverse_cdf_one_hot,
    mode_one_hot,
    one_hot,
    squared_error,
    straight_through,
    symexp,
    symexp_bins,
    symlog,
    two_hot,
    two_hot_cross_entropy,
    two_hot_mean,
    unimix_log_probs,
    unimix_probs,
)
from wmcomponents.functional.distributions.bounded_normal import bounded_normal

numbers = st.floats(-1e6, 1e6, width=32)
logits = st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=9)
unimixes = st.sampled_from([0.0, 0.01, 0.3, 1.0])
leads = st.sampled_from([(), (3,), (2, 3)])


@given(st.lists(numbers, min_size=1, max_size=8))
def test_symexp_undoes_symlog(values):
    x = torch.tensor(values)
    torch.testing.assert_close(symexp(symlog(x)), x, rtol=1e-5, atol=1e-6)


@given(st.lists(st.floats(-1e8, 1e8, width=32), min_size=1, max_size=8), st.sampled_from([3, 6, 41, 255]))
def test_two_hot_sums_to_one_and_decodes_back(values, count):
    bins, x = symexp_bins(count), torch.tensor(values)
    encoded = two_hot(x, bins)
    assert (encoded >= 0).all() and ((encoded > 0).sum(-1) <= 2).all()
    torch.testing.assert_close(encoded.sum(-1), torch.ones_like(x))
    decoded = (encoded.double() * bins.double()).sum(-1)
    # A weight is rounded to 6e-8 of its bin, which lies up to one gap away.
    gap = two_hot_gap(x, bins)
    assert ((decoded - x.double()).abs() <= 2e-7 * gap.double() + 1e-6).all()


def two_hot_gap(x, bins):
    above = torch.searchsorted(bins, x, right=True).clamp(1, len(bins) - 1)
    return (bins[above] - bins[above - 1]) + x.abs()


@given(st.sampled_from([1e9, -1e9, 4.9e8, -4.9e8]))
def test_two_hot_of_a_value_beyond_the_bins_is_the_last_bin(value):
    encoded = two_hot(torch.tensor(value), symexp_bins())
    assert encoded[-1 if value > 0 else 0] == 1 and encoded.sum() == 1


@given(leads, st.sampled_from([6, 41, 255]))
def test_two_hot_cross_entropy_is_that_of_the_two_hot_vector(lead, count):
    bins = symexp_bins(count)
    scores, target = torch.randn(*lead, count), symexp(4 * torch.randn(lead))
    expected = categorical_cross_entropy(scores, two_hot(target, bins))
    torch.testing.assert_close(two_hot_cross_entropy(scores, target, bins), expected, rtol=1e-4, atol=1e-5)


@given(st.sampled_from([2, 3, 6, 41, 255]), st.floats(-5, 5))
def test_equal_logits_predict_exactly_zero(count, level):
    assert two_hot_mean(torch.full((2, count), level), symexp_bins(count)).tolist() == [0.0, 0.0]


def test_no_gradient_reaches_a_two_hot_target():
    target = torch.ones(3, requires_grad=True)
    scores = torch.randn(3, 255, requires_grad=True)
    two_hot_cross_entropy(scores, target, symexp_bins()).sum().backward()
    assert target.grad is None and scores.grad is not None


@pytest.mark.parametrize("count,limit", [(1, 20.0), (5, 0.0)])
def test_too_few_bins_are_refused(count, limit):
    with pytest.raises(ValueError, match="at least 2 bins"):
        symexp_bins(count, limit)


@given(logits, unimixes)
def test_mixed_probabilities_sum_to_one_and_keep_their_floor(values, unimix):
    probs = unimix_probs(torch.tensor(values), unimix)
    torch.testing.assert_close(probs.sum(), torch.tensor(1.0))
    assert (probs >= unimix / len(values) - 1e-7).all()
    torch.testing.assert_close(unimix_log_probs(torch.tensor(values), unimix).exp(), probs, rtol=1e-4, atol=1e-6)


@given(logits, logits, unimixes)
def test_categorical_divergence_is_not_negative_and_zero_for_equals(left, right, unimix):
    size = min(len(left), len(right))
    p, q = (unimix_log_probs(torch.tensor(values[:size]), unimix) for values in (left, right))
    assert categorical_kl(p, q) >= -1e-5
    assert categorical_kl(p, p) == 0
    assert -1e-5 <= categorical_entropy(p) <= torch.tensor(float(size)).log() + 1e-5


@given(logits, unimixes)
def test_a_grid_of_noise_samples_each_class_in_proportion(values, unimix):
    probs, grid = unimix_probs(torch.tensor(values), unimix), (torch.arange(4000) + 0.5) / 4000
    samples = inverse_cdf_one_hot(probs.expand(4000, -1), grid)
    assert (samples.sum(-1) == 1).all() and ((samples == 0) | (samples == 1)).all()
    torch.testing.assert_close(samples.mean(0), probs, rtol=0, atol=2 / 4000)


def test_the_ends_of_the_noise_pick_the_first_and_the_last_possible_class():
    probs = torch.tensor([0.0, 0.5, 0.5, 0.0])
    assert inverse_cdf_one_hot(probs, torch.tensor(0.0)).argmax() == 1
    assert inverse_cdf_one_hot(torch.tensor([0.3, 0.7]), torch.tensor(1.0 - 2**-24)).argmax() == 1


@given(leads)
def test_straight_through_has_the_value_of_the_sample_and_the_gradient_of_the_probabilities(lead):
    probs = torch.rand(*lead, 4, requires_grad=True)
    weight = torch.randn(*lead, 4)
    out = straight_through(mode_one_hot(probs.detach()), probs)
    (out * weight).sum().backward()
    assert torch.equal(out, mode_one_hot(probs)) and torch.equal(probs.grad, weight)


def test_one_hot_of_a_missing_category_is_zero():
    assert one_hot(torch.tensor([-1, 1]), 3).tolist() == [[0, 0, 0], [0, 1, 0]]


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=5))
def test_gaussian_divergence_is_not_negative_and_zero_for_equals(pairs):
    mean_p, mean_q = (torch.tensor(values) / 1e5 for values in zip(*pairs, strict=True))
    std_p, std_q = mean_p.abs() + 0.1, mean_q.abs() + 0.2
    assert gaussian_kl(mean_p, std_p, mean_q, std_q) >= -1e-5
    assert gaussian_kl(mean_p, std_p, mean_p, std_p) == 0


def test_gaussian_formulas_agree_with_torch():
    mean, other, std, width = torch.randn(4, 3), torch.randn(4, 3), torch.rand(4, 3) + 0.1, torch.rand(4, 3) + 0.1
    p, q = (torch.distributions.Normal(m, s) for m, s in ((mean, std), (other, width)))
    torch.testing.assert_close(gaussian_log_prob(other, mean, std), p.log_prob(other).sum(-1))
    torch.testing.assert_close(gaussian_entropy(std), p.entropy().sum(-1))
    expected = torch.distributions.kl_divergence(p, q).sum(-1)
    torch.testing.assert_close(gaussian_kl(mean, std, other, width), expected, rtol=1e-4, atol=1e-5)


def test_bounded_normal_stays_in_its_bounds_and_refuses_crossed_ones():
    mean, std = bounded_normal(torch.tensor([-1e4, 0.0, 1e4]), torch.tensor([-1e4, 0.0, 1e4]), 0.2, 0.7)
    assert mean.abs().max() <= 1 and std.min() >= 0.2 and std.max() <= 0.7
    with pytest.raises(ValueError, match="min_std < max_std"):
        bounded_normal(mean, std, 1.0, 0.1)


def test_free_nats_stop_the_gradient_below_the_threshold():
    kl = torch.tensor([0.5, 2.0], requires_grad=True)
    free_nats(kl, 1.0).sum().backward()
    assert kl.grad.tolist() == [0.0, 1.0]


def test_each_side_of_the_balanced_divergence_trains_its_own_side():
    posterior, prior = (torch.randn(4, 3, requires_grad=True) for _ in range(2))

    def kl(p, q):
        return categorical_kl(p.log_softmax(-1), q.log_softmax(-1))

    dyn, rep = balanced_kl(kl, posterior, prior, nats=0.0)
    torch.testing.assert_close(dyn, rep)
    dyn.sum().backward(retain_graph=True)
    assert posterior.grad is None and prior.grad is not None
    prior.grad = None
    rep.sum().backward()
    assert posterior.grad is not None and prior.grad is None


@pytest.mark.parametrize("dtype,kept", [(torch.bfloat16, torch.float32), (torch.float64, torch.float64)])
def test_distributions_are_computed_in_float32_at_least(dtype, kept):
    scores, target, bins = torch.randn(2, 255, dtype=dtype), torch.ones(2), symexp_bins().to(kept)
    assert unimix_probs(scores).dtype == unimix_log_probs(scores, 0.0).dtype == kept
    assert two_hot_mean(scores, bins).dtype == categorical_cross_entropy(scores, scores.softmax(-1)).dtype == kept
    assert bernoulli_cross_entropy(scores, scores.sigmoid()).dtype == kept
    assert two_hot_cross_entropy(scores, target.to(kept), bins).dtype == kept


@given(leads, st.integers(0, 2))
def test_squared_error_sums_exactly_the_event(lead, event_dims):
    x, y = torch.randn(*lead, 2, 3), torch.randn(*lead, 2, 3)
    out = squared_error(x, y, event_dims)
    assert out.shape == (*lead, 2, 3)[: len(lead) + 2 - event_dims]
    torch.testing.assert_close(out.sum(), ((x - y) ** 2).sum())
