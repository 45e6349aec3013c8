"""The real steps of a demo's round: every episode from its own seed, the last one cut where the round ends."""

import gymnasium
import numpy as np
import pytest
import torch

from wmcomponents._interruption import Interrupted, Request
from wmcomponents.cli.demo_steps import RoundOfSteps
from wmcomponents.data import RandomPolicy, make_env, make_replay
from wmcomponents.data.episodes import equal_steps


class Walk(gymnasium.Env):
    """Episodes of 40 steps through images, which repeat themselves or do not."""

    observation_space = gymnasium.spaces.Box(0, 255, (4, 4, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, repeats=True):
        self.chance = None if repeats else np.random.default_rng()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._image(), {}

    def step(self, action):
        self.steps += 1
        return self._image(), float(action), self.steps == 40, False, {}

    def _image(self):
        return (self.chance or self.np_random).integers(0, 255, (4, 4, 3), np.uint8)


def round_of(replay, make, number=0, first=0):
    return RoundOfSteps(replay, lambda: make_env(make), seed=5, number=number, first=first)


def take(steps, last, said=None, request=None):
    policy = RandomPolicy(make_env(Walk).action_spec)
    say = print if said is None else said.append
    steps.take(last, policy, save=lambda: None, request=Request() if request is None else request, say=say)


class StoppedAfter(Request):
    """Asks to stop once it was looked at so many times."""

    def __init__(self, looks):
        self.looks = looks

    def __bool__(self):
        self.looks -= 1
        return self.looks < 0

    def check(self):
        if self.looks < 0:
            raise Interrupted


def new_replay():
    return make_replay(200, make_env(Walk), sequence_length=4, batch_size=2, print_fn=None)


def held(replay):
    return replay.storage.get(torch.arange(len(replay))).exclude("index")


@pytest.fixture(autouse=True)
def _few_at_a_time(monkeypatch):
    monkeypatch.setattr("wmcomponents.cli.demo_steps.STEPS_AT_A_TIME", 10)


def test_a_round_that_was_stopped_takes_the_steps_of_one_that_was_not():
    whole, stopped = new_replay(), new_replay()
    one = round_of(whole, Walk)
    take(one, 90)
    with pytest.raises(Interrupted):
        take(round_of(stopped, Walk), 90, request=StoppedAfter(5))
    assert len(stopped) == 60
    again = round_of(stopped, Walk)
    take(again, 90)
    assert equal_steps(held(stopped), held(whole))
    assert (one.count.ended, one.count.longest) == (again.count.ended, again.count.longest) == (3, 40)
    assert one.mean_return == again.mean_return == held(whole)["next", "reward"][:80].sum() / 2


def test_a_round_ends_its_episode_and_the_next_begins_one():
    replay = new_replay()
    take(round_of(replay, Walk), 50)
    take(round_of(replay, Walk, number=1, first=50), 100)
    steps = held(replay)
    assert steps["is_init"].nonzero()[:, 0].tolist() == [0, 40, 50, 90]
    assert steps["next", "terminated"].nonzero()[:, 0].tolist() == [39, 89]
    assert steps["next", "truncated"].nonzero()[:, 0].tolist() == [49, 99]
    assert steps["next", "done"].nonzero()[:, 0].tolist() == [39, 49, 89, 99]
    assert not equal_steps(steps[:10], steps[50:60])


def test_an_episode_that_does_not_repeat_itself_is_cut_where_it_was_stopped():
    replay, said = new_replay(), []
    odd = lambda: Walk(repeats=False)  # noqa: E731
    with pytest.raises(Interrupted):
        take(round_of(replay, odd), 90, request=StoppedAfter(5))
    before = held(replay)
    steps = round_of(replay, odd)
    take(steps, 90, said)
    assert said == ["the environment did not repeat its episode: it is cut where it was interrupted"]
    after = held(replay)
    assert len(after) == 90 and steps.count.ended == 3
    assert after["is_init"].nonzero()[:, 0].tolist() == [0, 40, 60]
    assert after["next", "truncated"].nonzero()[:, 0].tolist() == [59, 89]
    assert equal_steps(after[:59], before[:59])
    assert torch.equal(after["next", "pixels"][59], before["next", "pixels"][59])


def test_a_round_that_is_whole_is_counted_and_takes_no_step():
    replay = new_replay()
    take(round_of(replay, Walk), 50)
    steps = round_of(replay, None)
    take(steps, 50)
    assert (len(replay), steps.count.ended, steps.count.longest) == (50, 2, 40)
