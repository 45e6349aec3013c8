"""Training in dreams alone: it learns, goes on to the bit, and stops at what is not finite."""

import copy

import pytest
import torch
from torchrl.data import OneHot

from tests.support.line_world import Walk
from wmcomponents.agents.actor_critic import dreamer_v3_loss
from wmcomponents.agents.dream_trainer import DreamTrainer
from wmcomponents.dream.starts import PoolStarts
from wmcomponents.training import DivergedError


def trainer(seed=0):
    torch.manual_seed(0)
    loss = dreamer_v3_loss(Walk(OneHot(3)), units=16, horizon=5, seed=seed)
    pool = PoolStarts({"place": torch.linspace(-1, 1, 50)[:, None]})
    return DreamTrainer(loss, pool, batch_size=32, optimizer=loss.make_optimizer(lr=3e-3, warmup=1), seed=seed)


def test_it_learns_what_pays_and_tells_what_it_did():
    learner, told = trainer(), []
    before = learner.train(1)["return"]
    after = learner.train(60, progress=lambda number, found: told.append((number, found["return"])))
    assert after["return"] > before and told[-1][1] > told[0][1]
    assert [number for number, _ in told] == list(range(2, 62))
    assert learner.dreamed_steps == 61 * 32 * 5


def test_a_run_that_was_stopped_goes_on_to_the_bit():
    whole, stopped = trainer(), trainer()
    whole.train(6)
    stopped.train(3)
    kept = copy.deepcopy(stopped.state_dict())
    resumed = trainer(seed=9)
    resumed.load_state_dict(kept)
    resumed.train(3)
    assert resumed.updates == 6
    expected = whole.loss.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.loss.state_dict().items())


def test_what_is_not_finite_stops_it_before_it_spreads():
    learner = trainer()
    learner.train(2)
    kept = copy.deepcopy(learner.loss.actor.state_dict())
    with torch.no_grad():
        learner.loss.world_model.gain.fill_(torch.nan)
    with pytest.raises(DivergedError, match=r"return.* of the behaviour's update 2 is not finite"):
        learner.train(5)
    assert all(torch.equal(value, kept[name]) for name, value in learner.loss.actor.state_dict().items())
    with pytest.raises(ValueError, match="batch_size"):
        DreamTrainer(learner.loss, learner.starts, batch_size=0)
