import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictSequential

from wmcomponents.data import RandomPolicy, make_env
from wmcomponents.data.episodes import EpisodeCount, EpisodeStream, episode_seed, equal_steps


def stream(env_id="CartPole-v1", **place):
    env = make_env(env_id)
    policy = RandomPolicy(env.action_spec, 0.5, torch.Generator().manual_seed(99))
    return EpisodeStream(env, policy, **{"seed": 4, **place})


def ends(steps):
    return torch.nonzero(steps["next", "done"])[:, 0].tolist()


@pytest.mark.parametrize("env_id", ["CartPole-v1", "MinAtar/Breakout-v1"])
def test_an_episode_is_the_same_whatever_came_before_it(env_id):
    first = stream(env_id)
    steps = torch.cat([first.take(n) for n in (1, 30, 69)])
    second_end = ends(steps)[1]
    third = stream(env_id, episode=2)
    assert equal_steps(third.take(99 - second_end), steps[second_end + 1 :])
    assert steps["is_init"][second_end + 1].all() and not equal_steps(steps[:20], stream(env_id, seed=5).take(20))


def test_a_random_policy_inside_another_begins_anew_and_others_are_told_of_each_episode():
    env, seeds = make_env("CartPole-v1"), []
    inner = RandomPolicy(env.action_spec, generator=torch.Generator().manual_seed(99))
    policy = TensorDictSequential(inner)
    steps = EpisodeStream(env, policy, seed=4, begins=seeds.append).take(60)
    first = ends(steps)[0]
    assert seeds[:2] == [episode_seed(4, 0, 0), episode_seed(4, 0, 1)]
    second = EpisodeStream(make_env("CartPole-v1"), policy, seed=4, episode=1)
    assert equal_steps(second.take(59 - first), steps[first + 1 :])


def test_streams_of_one_seed_differ():
    assert len({episode_seed(0, number, episode) for number in range(20) for episode in range(20)}) == 400
    assert not equal_steps(stream(stream=0).take(5), stream(stream=1).take(5))


def test_episodes_are_counted_wherever_the_steps_are_cut():
    steps = stream().take(120)
    whole = EpisodeCount()
    whole.add(steps, keep_open=True)
    last = ends(steps)[-1]
    assert whole.ended == len(ends(steps)) and whole.total == last + 1
    starts = [-1, *ends(steps)]
    assert whole.longest == max(end - start for start, end in zip(starts, starts[1:], strict=False))
    assert equal_steps(whole.open, steps[last + 1 :])
    for size in (1, 7, 120):
        count = EpisodeCount()
        for part in steps.split(size):
            count.add(part, keep_open=True)
        assert (count.ended, count.total, count.longest) == (whole.ended, whole.total, whole.longest)
        assert equal_steps(count.open, whole.open)
    whole.cut()
    assert (whole.ended, whole.total, whole.open) == (len(ends(steps)) + 1, 120, None)
    at_an_end = EpisodeCount()
    at_an_end.add(steps[: last + 1], keep_open=True)
    assert at_an_end.open is None


def test_nan_equals_nan_and_nothing_else_does():
    one = TensorDict({"x": torch.tensor([0.0, torch.nan])}, [2])
    assert equal_steps(one, one.clone())
    for other in ([0.0, 1.0], [torch.nan, torch.nan], [1.0, torch.nan]):
        assert not equal_steps(one, TensorDict({"x": torch.tensor(other)}, [2]))
    assert not equal_steps(one, one.to(torch.float64)) and not equal_steps(one, TensorDict({"y": one["x"]}, [2]))
