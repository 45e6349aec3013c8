"""The losses of DreamerV2 and of DreamerV3's preprint: who is trained by what, and how strongly."""

import math
from typing import NamedTuple

import pytest
import torch
from torchrl.data import Composite, OneHot, Unbounded

from tests.support.small_batch import batch as every_kind
from wmcomponents.models import (
    DreamerV2,
    DreamerV2Config,
    DreamerV2LossConfig,
    DreamerV2ModelLoss,
    DreamerV3LossConfig,
    DreamerV3ModelLoss,
    DreamerV3Preprint,
    DreamerV3PreprintConfig,
    DreamerV3PreprintModelLoss,
    Filtered,
)
from wmcomponents.objectives.arrivals import Arrivals, arrivals_from
from wmcomponents.optim import ClippedAdam

SPEC = Composite(observation=Unbounded(4))
SMALL = {"deter": 16, "groups": 3, "classes": 4, "units": 8, "layers": 1}


def v2(**changes):
    torch.manual_seed(0)
    return DreamerV2(DreamerV2Config.tiny(**{**SMALL, "hidden": 8, **changes}), SPEC, OneHot(2))


def preprint(**changes):
    torch.manual_seed(0)
    made = DreamerV3Preprint(DreamerV3PreprintConfig.tiny(**{**SMALL, "free_nats": 0.0, **changes}), SPEC, OneHot(2))
    torch.nn.init.normal_(made.reward_head.out.weight, std=0.1)  # it begins at zero, where no gradient passes
    return made


MODELS = {"dreamer-v2": v2, "preprint": preprint}
every_model = pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)


def batch(seed=0, rows=4, time=6):
    return every_kind(seed, rows, time).exclude("board", ("next", "board"))


class Given(NamedTuple):
    """What a divergence is computed from."""

    filtered: Filtered
    prior: torch.Tensor
    arrivals: Arrivals
    noise: None = None

    @property
    def posterior(self):
        return self.filtered.posterior


def made_up(model, rows=5, length=7):
    """Made-up posteriors and priors, one row padded at its end."""
    params = model.dynamics.latent.params
    data = arrivals_from(batch(rows=rows, time=length - 1), ["observation"])
    data.weight = torch.ones(rows, length)
    data.weight[1, 4:] = 0.0
    states = torch.randn(rows, length, 16), torch.randn(rows, length, 3, 4)
    posterior, prior = torch.randn(2, rows, length, params).unbind()
    filtered = Filtered(*states, posterior.requires_grad_(), torch.randn(rows, length, 2))
    return Given(filtered, prior.requires_grad_(), data)


def seen(arrivals):
    return arrivals.action, arrivals.observation, arrivals.is_init


def mean(term, given):
    weight = given.arrivals.weight
    return (term * weight).sum() / weight.sum()


def divergence(objective, given):
    return mean(objective.divergences(*given)["divergence"], given)


@every_model
def test_what_is_written_is_what_is_declared_and_every_parameter_is_trained(build):
    model = build()
    objective = model.objective()
    out = objective(batch(rows=16))
    assert set(out.keys()) == set(objective.out_keys)
    sum(value for key, value in out.items() if key.startswith("loss_")).backward()
    assert not [name for name, p in objective.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


@every_model
def test_a_few_steps_on_one_batch_lower_its_loss(build):
    objective, data = build().objective(), batch()
    optimizer = objective.make_optimizer(lr=3e-3)
    values = []
    for _ in range(40):
        out = objective(data)
        total = sum(value for key, value in out.items() if key.startswith("loss_"))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        values.append(total.item())
    assert values[-1] < 0.95 * values[0] and math.isfinite(values[-1])


def test_four_fifths_of_the_divergence_train_the_prior():
    model = v2()
    given = made_up(model)
    kl = mean(model.dynamics.latent.kl(given.posterior, given.prior), given)
    kl.backward()
    whole = given.posterior.grad.clone(), given.prior.grad.clone()
    given.posterior.grad = given.prior.grad = None
    found = divergence(DreamerV2ModelLoss(model, DreamerV2LossConfig(kl_scale=3.0)), given)
    found.backward()
    torch.testing.assert_close(found, 3.0 * kl)
    torch.testing.assert_close(given.posterior.grad, 3.0 * 0.2 * whole[0])
    torch.testing.assert_close(given.prior.grad, 3.0 * 0.8 * whole[1])


def test_free_nats_of_v2_are_of_the_mean_over_what_is_no_padding():
    model = v2()
    given = made_up(model)
    kl = mean(model.dynamics.latent.kl(given.posterior, given.prior), given).item()
    clips = (DreamerV2LossConfig(free_nats=0.99 * kl), DreamerV2LossConfig(free_nats=1.01 * kl))
    below, above = (divergence(DreamerV2ModelLoss(model, config), given) for config in clips)
    assert below.item() == pytest.approx(kl, rel=1e-4) and above.item() == pytest.approx(1.01 * kl, rel=1e-4)
    above.backward()
    assert not given.posterior.grad.any() and not given.prior.grad.any()


@pytest.mark.parametrize("rewards", ["plain", "tanh"])
def test_rewards_of_v2_are_unit_normals_and_ends_a_soft_discount(rewards):
    model, data = v2(rewards=rewards, discount=0.9, continue_scale=5.0), batch(seed=1, rows=4, time=40)
    objective = model.objective()
    arrivals = arrivals_from(data, ["observation"])
    state = model.initial_state((4,))
    found, _ = objective.terms(arrivals, state, None)
    states = model.observe_sequence(state, *seen(arrivals), None)
    feat = model.features(states)
    target = arrivals.reward.tanh() if rewards == "tanh" else arrivals.reward
    expected = -torch.distributions.Normal(model.reward_head.raw(feat), 1.0).log_prob(target)
    torch.testing.assert_close(found["reward"], (expected * arrivals.reward_known).squeeze(-1))
    logits = model.continue_head.raw(feat)
    soft = 0.9 * (1.0 - arrivals.terminated.float())
    assert arrivals.terminated.any()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, soft, reduction="none")
    torch.testing.assert_close(found["continue"], 5.0 * expected.squeeze(-1))


def test_the_preprint_weighs_dynamics_by_half_and_learns_hard_ends():
    model, data = preprint(), batch()
    arrivals = arrivals_from(data, ["observation"])
    state = model.initial_state((4,))
    ours, _ = model.objective().terms(arrivals, state, None)
    current, _ = DreamerV3ModelLoss(model, DreamerV3LossConfig(free_nats=0.0)).terms(arrivals, state, None)
    torch.testing.assert_close(ours["dyn"], 0.5 * current["dyn"])
    torch.testing.assert_close(ours["rep"], current["rep"])
    logits = model.continue_head.raw(model.features(model.observe_sequence(state, *seen(arrivals), None)))
    hard = (~arrivals.terminated).float()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, hard, reduction="none")
    torch.testing.assert_close(ours["continue"], expected.squeeze(-1))
    assert isinstance(model.objective(), DreamerV3PreprintModelLoss) and float(model.objective().free_nats) == 0.0


@pytest.mark.parametrize(
    "objective,lr,eps,norm,decay",
    [
        (lambda: v2(lr=3e-4).objective(), 3e-4, 1e-5, 100.0, 1e-6),
        (lambda: preprint().objective(), 1e-4, 1e-8, 1000.0, 0.0),
    ],
    ids=["dreamer-v2", "preprint"],
)
def test_the_optimiser_is_the_papers_adam(objective, lr, eps, norm, decay):
    optimizer = objective().make_optimizer()
    assert isinstance(optimizer, ClippedAdam)
    group = optimizer.param_groups[0]
    assert (group["lr"], group["eps"], optimizer.max_norm, optimizer.decay) == (lr, eps, norm, decay)
    assert objective().make_optimizer(lr=1e-2).param_groups[0]["lr"] == 1e-2


def test_a_balance_that_is_no_share_is_refused():
    with pytest.raises(ValueError, match=r"in \[0, 1\]; got 1.2"):
        DreamerV2ModelLoss(v2(), DreamerV2LossConfig(balance=1.2))
