"""The maths against DreamerV3's own code."""

import pytest
import torch

from tests.support.golden_vectors import load
from wmcomponents.functional import (
    bernoulli_cross_entropy,
    categorical_entropy,
    categorical_kl,
    categorical_log_prob,
    gaussian_entropy,
    gaussian_log_prob,
    mode_one_hot,
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


def test_symlog_and_symexp_agree_with_the_official_code():
    info, tensors = load("v3_symlog_symexp")
    torch.testing.assert_close(symlog(tensors["in/x"]), tensors["out/symlog_x"], **info["tolerance"])
    torch.testing.assert_close(symexp(tensors["in/y"]), tensors["out/symexp_y"], **info["tolerance"])


@pytest.mark.parametrize("count", [255, 41, 6])
def test_bins_agree_with_the_official_code(count):
    info, tensors = load("v3_twohot")
    torch.testing.assert_close(symexp_bins(count), tensors[f"out/bins{count}"], rtol=1e-5, atol=1e-5)


def test_two_hot_target_loss_and_gradient_agree_with_the_official_code():
    info, tensors = load("v3_twohot")
    tolerance = {"rtol": info["tolerance"]["rtol"], "atol": info["tolerance"]["atol"]}
    bins = symexp_bins(255)
    logits = tensors["in/logits"].requires_grad_()
    loss = two_hot_cross_entropy(logits, tensors["in/target"], bins)
    loss.sum().backward()
    torch.testing.assert_close(loss, tensors["out/loss"], **tolerance)
    torch.testing.assert_close(logits.grad, tensors["grad/loss_sum_wrt_logits"], **tolerance)
    torch.testing.assert_close(two_hot(tensors["in/target"], bins), tensors["out/twohot_target"], rtol=0, atol=2e-6)


@pytest.mark.parametrize("suffix,count", [("", 255), ("_concentrated", 255), ("41", 41), ("6", 6)])
def test_two_hot_prediction_agrees_with_the_official_code(suffix, count):
    _, tensors = load("v3_twohot")
    prediction = two_hot_mean(tensors[f"in/logits{suffix}"], symexp_bins(count))
    torch.testing.assert_close(prediction, tensors[f"out/pred{suffix}"], rtol=1e-4, atol=500.0)


def test_two_hot_prediction_of_zero_logits_is_exactly_zero():
    _, tensors = load("v3_twohot")
    prediction = two_hot_mean(torch.zeros(3, 255), symexp_bins(255))
    assert torch.equal(prediction, tensors["out/pred_zero_logits"])


@pytest.mark.parametrize("name,unimix", [("u0", 0.0), ("u01", 0.01), ("u20", 0.2)])
def test_mixed_categorical_agrees_with_the_official_code(name, unimix):
    info, tensors = load("v3_unimix_onehot")
    p, q = (unimix_log_probs(tensors[key], unimix) for key in ("in/logits", "in/logits2"))
    logits = tensors["in/logits"].requires_grad_()
    probs = unimix_probs(logits, unimix)
    mode = straight_through(mode_one_hot(probs.detach()), probs)
    (mode * tensors[f"in/{name}/w"]).sum().backward()
    actual = {
        "out/{}/probs": probs,
        "out/{}/logp": categorical_log_prob(p, tensors["in/onehot"]),
        "out/{}/entropy": categorical_entropy(p),
        "out/{}/kl_1_2": categorical_kl(p, q),
        "out/{}/mode": mode,
        "grad/{}/st_wrt_logits": logits.grad,
    }
    for key, value in actual.items():
        torch.testing.assert_close(value, tensors[key.format(name)], **info["tolerance"])


def test_small_heads_agree_with_the_official_code():
    info, tensors = load("v3_small_heads")
    mean, std = bounded_normal(tensors["in/mean_raw"], tensors["in/std_raw"])
    actual = {
        "normal_mean": mean,
        "normal_std": std,
        "normal_logp": gaussian_log_prob(tensors["in/action"], mean, std),
        "normal_entropy": gaussian_entropy(std),
        "bin_loss": bernoulli_cross_entropy(tensors["in/bin_logit"], tensors["in/bin_target"], event_dims=0),
        "bin_prob1": tensors["in/bin_logit"].sigmoid(),
        "mse_loss": squared_error(tensors["in/vec_pred"], tensors["in/vec_target"]),
        "symlog_mse_loss": squared_error(tensors["in/vec_pred"], tensors["in/vec_target"], squash=symlog),
    }
    for key, value in actual.items():
        torch.testing.assert_close(value, tensors[f"out/{key}"], **info["tolerance"])
