"""What STORM's actor-critic has of its own: what its critic is kept near, its optimiser, dreams whose states go."""

import pytest
import torch
from torchrl.data import OneHot

from tests.support.models import MIXED_TOKENS, VECTOR
from wmcomponents.agents.actor_critic import FutureReturn, OneAdam, OwnValueReturn, RankNormalizer, storm_loss
from wmcomponents.agents.behaviour_json import from_json, to_json
from wmcomponents.agents.storm import STORMAgent
from wmcomponents.dream.imagine import passed_through, rollout
from wmcomponents.models import STORM, STORMConfig


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return STORM(STORMConfig.tiny(**MIXED_TOKENS), VECTOR, OneHot(3)).eval()


def starts(model, rows=5):
    return model.state_spec.zero([rows])


def test_the_critic_is_kept_near_the_returns_that_are_built_on_the_slow_critics_values(model):
    loss = storm_loss(model, units=8, horizon=3)
    with torch.no_grad():
        for p in loss.slow_critic.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    loss.generator.manual_seed(3)
    dreamt = loss.dream(starts(model))
    loss.generator.manual_seed(3)
    found = loss(starts(model))["loss_critic"]
    raw = loss.critic.raw(dreamt.features)
    built = [
        loss.targets(dreamt.reward, dreamt.cont, critic.mean(critic.raw(dreamt.features)).squeeze(-1)).state_value
        for critic in (loss.critic, loss.slow_critic)
    ]
    assert not torch.allclose(*built)
    errors = [loss.critic.loss(raw[:, :-1], target.unsqueeze(-1)).mean() for target in built]
    torch.testing.assert_close(found, sum(errors))
    with pytest.raises(ValueError, match="slow_target is 'value' or 'return'; got 'mean'"):
        storm_loss(model, slow_target="mean")


def test_every_step_of_a_dream_counts_alike_also_behind_an_end():
    reward, cont = torch.ones(1, 4), 0.9 * torch.tensor([[1.0, 0.0, 1.0, 1.0]])
    value = torch.tensor([[2.0, 3.0, 4.0, 5.0]])
    own, later = (kind(0.0)(reward, cont, value) for kind in (OwnValueReturn, FutureReturn))
    torch.testing.assert_close(own.state_value, torch.tensor([[1.0, 1 + 0.9 * 3.0, 1 + 0.9 * 4.0]]))
    torch.testing.assert_close(later.state_value, torch.tensor([[1.0, 1 + 0.9 * 4.0, 1 + 0.9 * 5.0]]))
    assert own.action_weight.tolist() == [[1.0, 1.0, 1.0]] and later.action_weight[0, 1:].tolist() == [0.0, 0.0]
    whole = OwnValueReturn(1.0)(reward, torch.ones(1, 4), value)
    assert whole.state_value.tolist() == [[8.0, 7.0, 6.0]]


def test_ranks_are_counted_and_not_interpolated():
    normalizer = RankNormalizer(rate=0.5, low=0.25, high=0.75)
    normalizer.update(torch.tensor([[40.0, 10.0], [20.0, 30.0]]))
    assert (float(normalizer.first), float(normalizer.second), float(normalizer.scale)) == (5.0, 15.0, 10.0)
    normalizer.update(torch.tensor([7.0]))  # of so few, the lowest rank is the first
    assert float(normalizer.first) == 0.5 * 5.0 + 0.5 * 7.0


def test_one_adam_steps_both_and_is_plain():
    actor, critic = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    optimizer = OneAdam(critic_lr=1e-2).make(actor, critic, None, None)
    assert [group["lr"] for group in optimizer.param_groups] == [3e-5, 1e-2]
    assert {group["clip"] for group in optimizer.param_groups} == {"all"} and optimizer.max_norm == 100.0
    assert [group["lr"] for group in OneAdam().make(actor, critic, 1e-4, 5).param_groups] == [1e-4, 1e-4]
    for part in (OneAdam(1e-3, critic_lr=3e-3), OneAdam()):
        assert from_json(to_json(part)) == part
    again = from_json(to_json({"targets": FutureReturn(0.5), "other": OwnValueReturn(0.7)}))
    assert (type(again["targets"]), again["targets"].lam, again["other"].lam) == (FutureReturn, 0.5, 0.7)


@torch.no_grad()
def test_a_dream_whose_states_are_given_away_is_the_dream_that_keeps_them(model):
    noise = model.noise_source("imagine")((6, 5), torch.Generator().manual_seed(0))
    start = dict(starts(model).items())
    kept = {key: value.clone() for key, value in start.items()}
    seen = []

    def act(state):
        seen.append(model.features(state))
        return torch.nn.functional.one_hot(seen[-1][:, :3].argmax(-1), 3)

    states, _, rewards, conts = rollout(model, act, start, 6, noise)
    features, seen = torch.stack(seen, 1), []
    passed = passed_through(model, act, start, 6, noise)
    assert all(torch.equal(value, kept[key]) for key, value in start.items())
    assert torch.equal(passed.rewards, rewards) and torch.equal(passed.conts, conts)
    assert torch.equal(torch.stack(seen, 1), features)
    for key, value in passed.last.items():
        assert torch.equal(value, states[key][:, -1]), key


def test_the_papers_numbers():
    config = STORMAgent.atari("CartPole-v1", changes={"model": STORMConfig.tiny(), "capacity": 100}, progress=False)
    c = config.config
    assert (c.batch_size, c.sequence_length, c.schedule.updates_per_step, c.schedule.prefill) == (16, 64, 1.0, 1024)
    assert c.behaviour == {"dreams": 1024}
    loss = config.behaviour.loss
    assert (loss.horizon, loss.discount, loss.targets.lam, loss.entropy_scale) == (16, 0.985, 0.95, 3e-4)
    assert [p.shape[0] for p in loss.actor.parameters() if p.ndim == 2] == [512, 512, 2]
