"""MuZero's transform and supports: laws, and the numbers of four codes."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from tests.support.golden_vectors import load
from wmcomponents.codecs import Support
from wmcomponents.functional import inverse_value_transform, lifted_value_transform, value_transform

numbers = st.floats(-1e4, 1e4, allow_nan=False, width=32)


def close(actual, expected, meta):
    torch.testing.assert_close(actual, expected, **meta["tolerance"])


@pytest.mark.parametrize("limit", [300, 10])
def test_muzero_general_s_supports(limit):
    meta, t = load("muzero_value_transform")
    support = Support.integers(limit)
    close(support.encode(t["x"]), t[f"mg.scalar_to_support{limit}"], meta)
    logits = t[f"logits{support.size}"]
    close(support.mean(logits).unsqueeze(-1), t[f"mg.support_to_scalar{limit}"], meta)


def test_the_transform_of_every_code():
    meta, t = load("muzero_value_transform")
    close(value_transform(t["x"]), t["h_of_x"], meta)
    close(value_transform(t["x"]), t["ez.scalar_transform"], meta)


def test_efficientzero_s_support_hides_what_is_near_zero():
    meta, t = load("muzero_value_transform")
    support = Support.integers(300, dead_zone=1e-3)
    close(support.encode(t["x"]), t["ez.phi"], meta)
    close(support.mean(t["logits601"]).unsqueeze(-1), t["ez.inverse_scalar_transform"], meta)
    small = torch.tensor([5e-4, -5e-4, 2e-3])
    assert inverse_value_transform(value_transform(small), dead_zone=1e-3).tolist()[:2] == [0.0, 0.0]
    assert inverse_value_transform(value_transform(small), dead_zone=1e-3)[2] > 1e-3
    assert inverse_value_transform(torch.tensor(torch.nan), dead_zone=1e-3).isnan()


def test_lightzero_s_support():
    meta, t = load("muzero_value_transform")
    support = Support.integers(300)
    close(support.encode(t["x"]), t["lz.phi"], meta)
    for name in ("lz.inverse", "lz.inverse_class"):
        close(support.mean(t["logits601"]).unsqueeze(-1), t[name], meta)
    # Recorded for the hundredth part of x.
    close(inverse_value_transform(t["x"].reshape(-1, 1) / 100), t["lz.inverse_noncategorical"], meta)


@pytest.mark.parametrize("name", ["dmc_reward", "dmc_value", "atari"])
def test_efficientzero_v2_s_supports(name):
    meta, t = load("efficientzerov2_support")
    bins = meta["config"]["bins"]
    support = Support.uniform(*meta["config"].get(name, (-1, 1)), bins)
    if name == "atari":
        support = Support(torch.arange(-300.0, 301.0), transform=lifted_value_transform)
    close(support.encode(t["x"]), t[f"{name}.vector"], meta)
    close(support.mean(t[f"logits{support.size}"]).unsqueeze(-1), t[f"{name}.scalar"], meta)


@given(numbers)
def test_the_inverse_gives_back_the_number(x):
    x = torch.tensor(x)
    back = inverse_value_transform(value_transform(x))
    torch.testing.assert_close(back, x, rtol=1e-3, atol=2e-4)


@given(numbers)
def test_the_inverse_is_exact_in_double_precision(x):
    x = torch.tensor(x, dtype=torch.float64)
    torch.testing.assert_close(inverse_value_transform(value_transform(x)), x, rtol=1e-9, atol=1e-9)


@given(numbers, numbers)
def test_the_transform_keeps_order_and_sign(x, y):
    a, b = torch.tensor(x, dtype=torch.float64), torch.tensor(y, dtype=torch.float64)
    if x < y:
        assert value_transform(a) < value_transform(b)
    assert value_transform(-a) == -value_transform(a)
    assert value_transform(a).sign() == a.sign()


@given(numbers, st.sampled_from([Support.integers(300), Support.integers(10), Support.uniform(-299, 299)]))
def test_a_number_on_a_support_sums_to_one_and_decodes_to_itself_within_the_ends(x, support):
    weights = support.encode(torch.tensor([x]))
    assert weights.min() >= 0
    assert (weights > 0).sum() <= 2
    torch.testing.assert_close(weights.sum(-1), torch.ones(1))
    low, high = inverse_value_transform(support.bins[[0, -1]].double()).tolist()
    expected = torch.tensor([min(max(x, low), high)])
    torch.testing.assert_close(support.mean(weights.log()), expected, rtol=2e-3, atol=1e-3)


@given(numbers)
def test_the_error_is_least_where_the_logits_are_the_target(x):
    support, target = Support.integers(120), torch.tensor([x])
    best = support.loss(support.encode(target).log().clamp_min(-30.0), target)
    assert best <= support.loss(torch.zeros(1, support.size), target) + 1e-6


def test_a_support_needs_bins_that_increase():
    with pytest.raises(ValueError, match="at least two increasing bins"):
        Support(torch.tensor([1.0, 1.0]))
