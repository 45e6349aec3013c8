"""Real steps of several environments: repeated to the bit from a saved state, or given up where that cannot be."""

import itertools
import math

import pytest
import torch
from tensordict.nn import TensorDictModule

from tests.support.online_runs import Drift
from wmcomponents.agents.real_steps import RealSteps
from wmcomponents.data import make_env
from wmcomponents.training import DivergedError


class Endless(Drift):
    """Drifts on without an end."""

    def step(self, action):
        place, reward, _, _, info = super().step(action)
        return place, reward, False, False, info


def policy():
    """To the one side or the other, by where it is."""
    return TensorDictModule(
        lambda place: torch.nn.functional.one_hot((place[..., 0] < 0).long(), 2), ["observation"], ["action"]
    )


def real(streams=2, forgetting=(), world=Drift):
    """Steps in so many places that drift; those of ``forgetting`` do not repeat an episode."""
    rows = itertools.cycle(range(streams))

    def make():
        return make_env(world, env_kwargs={"forgets": next(rows) in forgetting})

    return RealSteps(make, policy(), streams=streams, seed=3)


def same(one, other):
    return all(torch.equal(one[key], other[key]) for key in one.keys(True, True))


@pytest.mark.parametrize("streams", [1, 2])
def test_steps_in_two_pieces_are_the_steps_in_one(streams):
    straight, first, second = real(streams), real(streams), real(streams)
    whole, ended = straight.take(30)
    before, ended_before = first.take(13)
    assert any(first.state_dict()["lengths"])  # in the middle of an episode
    second.load_state_dict(first.state_dict())
    after, ended_after = second.take(17)
    assert not second.lost
    assert same(torch.cat([before, after], -1), whole)
    assert ended_before + ended_after == ended and len(ended) >= 2
    assert straight.steps == second.steps == 30 * streams
    for one in (straight, first, second):
        one.close()


def test_random_steps_go_on_with_the_draws_that_come_next():
    straight, first, second = real(), real(), real()
    whole, _ = straight.take(12, at_random=True)
    before, _ = first.take(5, at_random=True)
    second.load_state_dict(first.state_dict())
    after, _ = second.take(7, at_random=True)
    assert same(torch.cat([before, after], -1), whole)


def test_streams_are_worlds_of_their_own_and_a_close_in_between_changes_nothing():
    straight, closed = real(), real()
    whole, _ = straight.take(12)
    assert not torch.equal(whole["observation"][0], whole["observation"][1])
    before, _ = closed.take(5)
    closed.close()
    after, _ = closed.take(7)
    assert same(torch.cat([before, after], -1), whole)


def test_only_the_stream_whose_episode_does_not_repeat_is_lost_and_begins_another():
    first = real(forgetting={1}, world=Endless)
    taken, _ = first.take(3)
    state = first.state_dict()
    assert state["lengths"] == [3, 3]
    begun = list(state["begun"])
    second = real(forgetting={1}, world=Endless)
    second.load_state_dict(state)
    after, _ = second.take(1)
    assert list(second.lost) == [1]
    assert after["is_init"][:, 0, 0].tolist() == [False, True]
    assert torch.equal(after["observation"][0, 0], taken["next", "observation"][0, -1])
    assert not torch.equal(after["observation"][1, 0], taken["next", "observation"][1, -1])
    assert second.state_dict()["lengths"] == [4, 1]
    assert second.state_dict()["begun"] == [begun[0], begun[1] + 1]


def test_a_state_of_another_number_of_environments_is_refused():
    with pytest.raises(ValueError, match="taken of 2 environments, and there are 1 here"):
        real(1).load_state_dict(real(2).state_dict())


def test_returns_and_lengths_are_those_of_whole_episodes():
    steps = real(1)
    taken, ended = steps.take(60)
    reward, done = taken["next", "reward"].squeeze(-1).double(), taken["next", "done"].squeeze(-1)
    begin = 0
    assert len(ended) == int(done.sum()) >= 3
    for (at, stream, total, length), end in zip(ended, torch.nonzero(done)[:, 0].tolist(), strict=True):
        assert (at, stream, length) == (end + 1, 0, end + 1 - begin)
        assert math.isclose(total, float(reward[begin : end + 1].sum()), rel_tol=1e-6)
        begin = end + 1


def test_a_policy_that_is_no_number_is_named_with_the_step():
    steps = real(1)
    steps.policy = TensorDictModule(
        lambda place: (torch.nn.functional.one_hot((place[..., 0] < 0).long(), 2), place * torch.nan),
        ["observation"],
        ["action", "value"],
    )
    with pytest.raises(DivergedError, match="policy's 'value' is NaN at real step 0"):
        steps.take(1)
