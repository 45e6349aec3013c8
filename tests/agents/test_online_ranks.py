from unittest import mock

import pytest
import torch
from tensordict import TensorDict

from tests.support.online_runs import run, weights
from tests.support.ranks import even_draws, run_ranks, try_ranks
from tests.support.small_dreamer import model as small_dreamer
from wmcomponents._global_batch import spread_over_processes
from wmcomponents.agents.actor_critic import dreamer_v3_loss
from wmcomponents.agents.actor_critic.step import take_step
from wmcomponents.agents.draws import own_draws, with_draws
from wmcomponents.agents.shares import load_shares
from wmcomponents.dream.starts import PriorStarts
from wmcomponents.training import Ranks


def place_of(trainer):
    return trainer.replay[:]["observation"]


def test_an_agent_in_two_processes_is_one_agent_that_goes_on_to_the_bit_in_two_or_in_one(tmp_path):
    def work(rank):
        whole = run(tmp_path / "whole")
        whole.train(60)
        stopped = run(tmp_path / "stopped")
        stopped.train(44)
        again = run(tmp_path / "stopped")
        seen = again.real_steps, len(again.replay)
        again.train(60)
        facts = whole.global_step, whole.real_steps, len(whole.replay), whole.evaluations, len(whole.episodes)
        return weights(whole), weights(again), facts, seen, place_of(whole)

    (whole, again, facts, seen, places), (other, _, other_facts, other_seen, other_places) = run_ranks(work)
    assert torch.equal(whole, again)
    assert torch.equal(whole, other)
    assert facts == other_facts
    assert facts[:3] == (7, 60, 30)
    assert seen == other_seen == (44, 22)
    assert not torch.equal(places, other_places)

    alone = run(tmp_path / "stopped")
    assert torch.equal(weights(alone), whole)
    assert (alone.real_steps, len(alone.replay)) == (60, 60)
    assert set(map(tuple, places.tolist())) | set(map(tuple, other_places.tolist())) == set(
        map(tuple, place_of(alone).tolist())
    )
    assert alone.replay[29]["next", "truncated"]
    assert alone.replay[30]["is_init"]
    alone.train(68)
    assert alone.real_steps == 68


def test_a_run_of_one_process_goes_on_in_two_with_other_draws_in_each(tmp_path):
    alone = run(tmp_path)
    alone.train(40)

    def work(rank):
        two = run(tmp_path)
        begun = weights(two), len(two.replay), two.real_steps
        two.train(56)
        return *begun, weights(two), place_of(two)[40:]

    (begun, kept, steps, end, places), (other_begun, other_kept, other_steps, other_end, other_places) = run_ranks(work)
    assert torch.equal(begun, weights(alone))
    assert torch.equal(begun, other_begun)
    assert (kept, steps) == (other_kept, other_steps) == (40, 40)
    assert torch.equal(end, other_end)
    assert not torch.equal(places, other_places)


def test_an_actor_critic_steps_on_two_halves_as_on_the_whole():
    model = small_dreamer(0)
    starts = TensorDict(dict(PriorStarts(model).sample(6, torch.Generator().manual_seed(0))), [6])
    starts["deter"] = starts["deter"] + torch.arange(6.0)[:, None]

    def stepped(rows):
        torch.manual_seed(1)
        loss = dreamer_v3_loss(model, units=8, horizon=3)
        optimizer = loss.make_optimizer(1e-3, 0)
        with even_draws():
            found = [take_step(loss(starts[rows]), optimizer, number) for number in range(2)]
        return found, torch.cat([value.detach().flatten().float() for value in loss.state_dict().values()])

    def work(rank):
        Ranks.joined()
        with spread_over_processes():
            return stepped(list(range(6))[rank::2])

    whole, end = stepped(list(range(6)))
    for found, learned in run_ranks(work):
        for one, other in zip(found, whole, strict=True):
            assert one == pytest.approx(other, rel=1e-4, abs=1e-5)
        torch.testing.assert_close(learned, end, rtol=1e-3, atol=1e-4)


def test_an_agent_that_steps_on_its_own_gradients_alone_is_refused():
    def work(rank):
        trainer = run()
        learn = trainer.agent.learn

        def alone(experience):
            with mock.patch("wmcomponents._global_batch._is_spread", False):
                return learn(experience)

        trainer.agent.learn = alone
        trainer.train(60)

    for one in try_ranks(work):
        assert one.error == "ValueError"
        assert "does not average its gradients" in one.said


def test_each_process_draws_apart_and_only_generators_differ():
    state = run().agent.state_dict()
    own = own_draws(state, Ranks(1, 2), 0)
    assert len(own) == 2
    other = with_draws(state, own)
    assert not torch.equal(other["generator"], state["generator"])
    assert all(torch.equal(value, other["loss"][name]) for name, value in state["loss"].items())
    assert other["updates"] == state["updates"]


def test_shares_of_three_processes_are_all_read_by_two(tmp_path):
    for rank in range(3):
        trainer = run()
        trainer.real.take(1)
        steps, _ = trainer.real.take(10 + rank, at_random=True)
        trainer.replay.extend(steps)
        trainer.replay.dumps((tmp_path / f"rank-{rank}" if rank else tmp_path) / "data")
    kept = []
    for rank in range(2):
        trainer = run()
        load_shares(trainer.replay, tmp_path, 3, Ranks(rank, 2))
        kept.append(len(trainer.replay))
    assert kept == [22, 11]
