"""Returns, normalisers and losses against the authors' own numbers."""

import math

import pytest
import torch
from torch import nn

from tests.support.golden_vectors import load
from wmcomponents.agents.actor_critic import (
    ArrivalReturn,
    BoundedNormalActions,
    CategoricalActions,
    DynamicsGradient,
    FutureReturn,
    MixedGradient,
    NoNormalizer,
    PercentileNormalizer,
    Reinforce,
    StdNormalizer,
    actor_term,
    critic_term,
    replay_targets,
)
from wmcomponents.functional import lambda_return, symexp_bins, two_hot_mean
from wmcomponents.heads import Head
from wmcomponents.heads.two_hot import TwoHotDistribution


def two_hot_critic():
    """The head without a network: raw outputs are given."""
    return Head(nn.Identity(), nn.Identity(), TwoHotDistribution(symexp_bins(255)))


def test_dreamers_returns_and_weights_are_the_authors():
    info, tensors = load("v1_lambda_return")
    reward, cont, value = (tensors[f"in/{name}"].T for name in ("reward", "pcont", "value"))
    start = torch.zeros(len(reward), 1)
    targets = ArrivalReturn(from_start=False)(
        torch.cat([start, reward], -1), torch.cat([start, cont], -1), torch.cat([start, value], -1)
    )
    torch.testing.assert_close(targets.action_value.T, tensors["out/returns"], **info["tolerance"])
    torch.testing.assert_close(targets.state_value.T, tensors["out/returns"], **info["tolerance"])
    torch.testing.assert_close(targets.action_weight.T, tensors["out/weights"], **info["tolerance"])
    assert targets.first_state == 1
    constant = lambda_return(reward[:, :-1], torch.full_like(cont, 0.99)[:, :-1], value[:, 1:])
    torch.testing.assert_close(constant.T, tensors["out/returns_const_discount"], **info["tolerance"])


@pytest.mark.parametrize(
    "name,estimator", [("reinforce", Reinforce()), ("dynamics", DynamicsGradient()), ("both", MixedGradient(0.1))]
)
def test_dreamer_v2s_losses_and_gradients_are_the_authors(name, estimator):
    info, tensors = load("v2_actor_critic_loss")
    got = {key.removeprefix("in/"): value for key, value in tensors.items() if key.startswith("in/")}
    feat = got["feat"].transpose(0, 1)
    w_actor, w_critic = got["w_actor"].requires_grad_(), got["w_critic"].requires_grad_()
    reward, discount = got["reward"].T, got["discount"].T
    slow = feat @ got["w_target_critic"]
    targets = ArrivalReturn()(reward, discount, slow)
    torch.testing.assert_close(targets.state_value.T, tensors["out/target"], **info["tolerance"])
    torch.testing.assert_close(targets.state_weight.T, got["weight"][:-1], **info["tolerance"])
    actions, raw = CategoricalActions([3]), feat @ w_actor
    log_prob = actions.log_prob(raw[:, :-1], got["action"].transpose(0, 1)[:, 1:])
    loss = actor_term(
        targets, slow, log_prob, actions.entropy(raw[:, :-1]), estimator, NoNormalizer(), info["config"]["actor_ent"]
    ).mean()
    loss.backward()
    torch.testing.assert_close(loss[None], tensors[f"out/{name}/actor_loss"], **info["tolerance"])
    torch.testing.assert_close(w_actor.grad, tensors[f"grad/{name}/w_actor"], **info["tolerance"])
    value = (feat @ w_critic)[:, : targets.state_value.shape[-1]]
    error = 0.5 * (value - targets.state_value).square() + 0.5 * math.log(2 * math.pi)
    critic = (targets.state_weight * error).mean()
    critic.backward()
    torch.testing.assert_close(critic[None], tensors["out/critic_loss"], **info["tolerance"])
    torch.testing.assert_close(w_critic.grad, tensors["grad/w_critic"], **info["tolerance"])


def test_dreamer_v3s_returns_are_the_authors():
    info, tensors = load("v3_lambda_return")
    reward, con, value, boot = (tensors[f"in/{name}"] for name in ("reward", "con", "value", "boot"))
    last, term = (tensors[f"in/{name}"].float() for name in ("last", "term"))
    dream = FutureReturn(0.95)(reward, con, value)
    torch.testing.assert_close(dream.action_value, tensors["out/imag_contdisc"], **info["tolerance"])
    for lam in (0.0, 1.0):
        found = FutureReturn(lam)(reward, con * (1 - 1 / 333), value).action_value
        torch.testing.assert_close(found, tensors[f"out/imag_lam{lam:.0f}_disc"], **info["tolerance"])
    live, lam = (1 - term[:, 1:]) * (1 - 1 / 333), (1 - last[:, 1:]) * 0.95
    replay = lambda_return(reward[:, 1:], live, boot[:, 1:], lam)
    torch.testing.assert_close(replay, tensors["out/replay_style"], **info["tolerance"])


def test_the_preprints_returns_are_the_authors():
    info, tensors = load("v3_2023_lambda_return_torch")
    reward, value, discount = (tensors[f"in/{name}"].squeeze(-1).T for name in ("reward", "value", "discount"))
    found = FutureReturn(0.95)(reward, discount, value).action_value
    torch.testing.assert_close(found.T[..., None], tensors["out/target"], **info["tolerance"])


@pytest.mark.parametrize(
    "name,build",
    [
        ("perc_default", PercentileNormalizer),
        ("perc_rate0.1", lambda: PercentileNormalizer(rate=0.1)),
        ("perc_debias", lambda: PercentileNormalizer(debias=True)),
        ("meanstd_debias", lambda: StdNormalizer(debias=True)),
    ],
)
def test_dreamer_v3s_normaliser_is_the_authors(name, build):
    info, tensors = load("v3_return_normalizer")
    normalizer = build()
    for step, row in enumerate(tensors[f"out/{name}"]):
        normalizer.update(tensors[f"in/x{step}"])
        torch.testing.assert_close(normalizer.scale, row[1], **info["tolerance"])


def test_dreamer_v3s_imagination_losses_and_gradients_are_the_authors():
    info, tensors = load("v3_imag_loss_continuous")
    config = info["config"]
    raw, logits = tensors["in/policy_raw"].requires_grad_(), tensors["in/value_logits"].requires_grad_()
    bins, actions = symexp_bins(config["bins"]), BoundedNormalActions(4)
    value, slow = two_hot_mean(logits, bins), two_hot_mean(tensors["in/slow_logits"], bins)
    targets = FutureReturn(config["lam"])(tensors["in/reward"], tensors["in/con"], value)
    normalizer = PercentileNormalizer()
    normalizer.first.copy_(tensors["in/retnorm_lo"][0])
    normalizer.second.copy_(tensors["in/retnorm_hi"][0])
    normalizer.update(targets.state_value)
    log_prob, entropy = actions.log_prob(raw, tensors["in/action"]), actions.entropy(raw)
    policy = actor_term(targets, value, log_prob, entropy, Reinforce(), normalizer, config["actent"])
    critic = critic_term(two_hot_critic(), logits, targets, slow, config["slowreg"])
    (policy.mean() + critic.mean()).backward()
    found = {
        "out/ret": targets.state_value,
        "out/policy_logp": log_prob,
        "out/policy_entropy": entropy,
        "out/value": value,
        "out/slowvalue": slow,
        "out/retnorm_hi": normalizer.second[None],
        "out/retnorm_lo": normalizer.first[None],
        "out/loss_policy": policy,
        "out/loss_value": critic,
        "grad/policy_raw": raw.grad,
        "grad/value_logits": logits.grad,
    }
    tolerance = {name: info["tolerance"][name] for name in ("rtol", "atol")}
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, tensors[name], **tolerance, msg=lambda text, name=name: f"{name}: {text}")


def test_dreamer_v3s_replay_value_loss_is_the_authors():
    info, tensors = load("v3_repl_loss")
    logits, bins = tensors["in/value_logits"], symexp_bins(255)
    last, term = tensors["in/last"].bool(), tensors["in/term"].bool()
    targets = replay_targets(tensors["in/reward"], term, last, tensors["in/boot"], discount=1 - 1 / 333, lam=0.95)
    slow = two_hot_mean(tensors["in/slow_logits"], bins)
    loss = critic_term(two_hot_critic(), logits, targets, slow, info["config"]["slowreg"])
    tolerance = {name: info["tolerance"][name] for name in ("rtol", "atol")}
    torch.testing.assert_close(targets.state_value, tensors["out/ret"], **tolerance)
    torch.testing.assert_close(loss, tensors["out/loss_repval"], **tolerance)
