import math

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import (
    Binary,
    Bounded,
    Categorical,
    MultiCategorical,
    MultiOneHot,
    NonTensor,
    OneHot,
    Unbounded,
    UnboundedDiscrete,
)
from torchrl.envs import GymEnv

from wmcomponents.data import RandomPolicy, RealCollector, collect, make_env, make_replay, transition_keys


def replay_of(env, capacity=2000):
    return make_replay(capacity, env, sequence_length=4, batch_size=2, seed=0, print_fn=None)


@pytest.mark.parametrize("num_envs", [1, 3])
def test_the_steps_stored_are_exactly_those_asked_for(num_envs):
    env = make_env("CartPole-v1", num_envs=num_envs)
    replay = replay_of(env)
    collector = RealCollector(env, replay, seed=0, frames_per_batch=50)
    for frames in (num_envs, 2 * num_envs, 51 * num_envs, 150):
        before = len(replay)
        assert collector.collect(frames).frames == frames
        assert len(replay) - before == frames
    collector.close()


@pytest.mark.parametrize("num_envs", [1, 3])
def test_an_episode_goes_on_over_calls(num_envs):
    kept = []
    for rounds in ([120], [30, 3, 87]):
        env = make_env("CartPole-v1", num_envs=num_envs)
        replay = replay_of(env)
        collector = RealCollector(env, replay, seed=4)
        stats = [collector.collect(frames) for frames in rounds]
        ended = [(s.returns, s.lengths) for s in stats]
        kept.append((replay.storage[:].clone(), *(sum(lists, []) for lists in zip(*ended, strict=True))))
        collector.close()
    assert (kept[0][0] == kept[1][0]).all()
    assert kept[0][1:] == kept[1][1:]


def test_the_statistics_are_those_of_whole_episodes():
    env = make_env("CartPole-v1")
    replay = replay_of(env)
    stats = collect(env, replay, 300, seed=0)
    ends = replay.storage[:]["next", "done"][:, 0].nonzero()[:, 0]
    lengths = ends.diff(prepend=torch.tensor([-1])).tolist()
    assert stats.frames == 300 and stats.episodes == len(lengths) > 3
    assert stats.lengths == lengths and stats.returns == [float(length) for length in lengths]


def test_only_the_transition_is_stored():
    env = make_env("CartPole-v1", max_episode_steps=30)
    replay = replay_of(env)

    def chatty(td: TensorDict) -> TensorDict:
        td.set("thought", torch.zeros(3))
        return td.set("action", torch.tensor([0, 1]))

    collect(env, replay, 40, policy=chatty, seed=0)
    assert set(replay.storage[:].keys(True, True)) == {*transition_keys(env), "index"}


def test_the_policy_acts_and_can_be_exchanged_in_the_middle_of_an_episode():
    env = make_env("Pendulum-v1")
    replay = replay_of(env)

    def always(value):
        def act(td: TensorDict) -> TensorDict:
            return TensorDict({"action": torch.full((1,), value)}, batch_size=[])

        return act

    collector = RealCollector(env, replay, policy=always(0.5), seed=0)
    collector.collect(7)
    collector.policy = always(-1.0)
    collector.collect(5)
    assert replay.storage[:]["action"][:, 0].tolist() == [0.5] * 7 + [-1.0] * 5
    assert replay.storage[:]["is_init"].sum() == 1
    collector.close()


def test_a_seed_fixes_what_is_collected():
    def collected(seed):
        env = make_env("CartPole-v1")
        replay = replay_of(env)
        collect(env, replay, 100, seed=seed, action_repeat_prob=0.3)
        return replay.storage[:]

    torch.manual_seed(0)
    first = collected(1)
    torch.manual_seed(5)
    assert (first == collected(1)).all()
    assert not (first == collected(2)).all()


def test_progress_is_told_of_every_step():
    told = []
    env = make_env("CartPole-v1")
    collect(env, replay_of(env), 120, frames_per_batch=50, progress=told.append)
    assert told == [50, 50, 20]


def test_without_a_buffer_only_the_statistics_are_kept():
    assert collect(make_env("CartPole-v1"), None, 100, seed=0).episodes > 1


def test_the_environment_can_be_used_after_collecting():
    env = make_env("CartPole-v1")
    collect(env, None, 10)
    assert env.rollout(3).shape == (3,)


def test_an_environment_without_is_init_is_refused():
    with pytest.raises(KeyError, match="InitTracker"):
        RealCollector(GymEnv("CartPole-v1"), None)


def test_no_frames_is_refused():
    with pytest.raises(ValueError, match="at least 1; got 0"):
        collect(make_env("CartPole-v1"), None, 0)


SPECS = [
    OneHot(3),
    Categorical(4),
    Bounded(torch.tensor([-1.0, 2.0]), torch.tensor([1.0, 5.0]), shape=(2,)),
    Unbounded(2),
    OneHot(4, shape=(2, 4)),
    MultiOneHot([2, 3]),
    MultiCategorical([2, 3]),
    Binary(3),
    UnboundedDiscrete(3, dtype=torch.bool),
    Bounded(-3, 5, shape=(2,), dtype=torch.int16),
    UnboundedDiscrete(4, dtype=torch.int64),
    Bounded(torch.tensor([0.0, -math.inf, 1.0]), torch.tensor([math.inf, 2.0, 3.0]), shape=(3,)),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: type(spec).__name__)
@pytest.mark.parametrize("batch", [(), (5,)])
@pytest.mark.parametrize("repeat", [0.0, 0.5])
def test_random_actions_lie_in_the_spec(spec, batch, repeat):
    spec = spec.expand(*batch, *spec.shape)
    policy = RandomPolicy(spec, repeat, torch.Generator().manual_seed(0))
    td = TensorDict({"is_init": torch.zeros(*batch, 1, dtype=torch.bool)}, batch_size=batch)
    drawn = torch.stack([policy(td)["action"].clone() for _ in range(50)])
    assert drawn.dtype == spec.dtype and drawn.shape[1:] == spec.shape
    assert all(spec.is_in(action) for action in drawn)
    assert (drawn != drawn[0]).any()


def test_actions_are_uniform():
    policy = RandomPolicy(OneHot(4, shape=(20_000, 4)), generator=torch.Generator().manual_seed(0))
    share = policy(TensorDict(batch_size=[20_000]))["action"].float().mean(0)
    assert (share - 0.25).abs().max() < 0.02


def test_an_action_is_held_as_often_as_asked_and_never_into_another_episode():
    policy = RandomPolicy(Unbounded(shape=(1000, 1)), 0.7, torch.Generator().manual_seed(0))
    td = TensorDict({"is_init": torch.zeros(1000, 1, dtype=torch.bool)}, batch_size=[1000])
    td["is_init"][:100] = True
    first = policy(td)["action"].clone()
    held = (policy(td)["action"] == first)[:, 0]
    assert not held[:100].any()
    assert 0.65 < held[100:].float().mean() < 0.75


def test_random_actions_leave_the_global_generator_alone():
    policy = RandomPolicy(OneHot(3), 0.5, torch.Generator().manual_seed(0))
    before = torch.get_rng_state()
    policy(TensorDict())
    policy(TensorDict())
    assert torch.get_rng_state().equal(before)


def test_an_action_space_it_cannot_draw_from_is_refused():
    with pytest.raises(TypeError, match="NonTensor"):
        RandomPolicy(NonTensor(example_data="left"))


def test_numbers_without_a_bound_are_drawn_as_gymnasium_draws_them():
    """Exponential from the only bound on, normal without any, uniform between two."""
    low, high = torch.tensor([1.0, -math.inf, -math.inf, 2.0]), torch.tensor([math.inf, 3.0, math.inf, 4.0])
    policy = RandomPolicy(Bounded(low, high).expand(20_000, 4), generator=torch.Generator().manual_seed(0))
    drawn = policy(TensorDict(batch_size=[20_000]))["action"]
    assert drawn.isfinite().all()
    for value, target in ((drawn.mean(0), [2.0, 2.0, 0.0, 3.0]), (drawn.std(0), [1.0, 1.0, 1.0, 12**-0.5 * 2])):
        torch.testing.assert_close(value, torch.tensor(target), rtol=0, atol=0.05)


def test_every_integer_of_a_range_is_drawn():
    policy = RandomPolicy(Bounded(-1, 2, (4000,), dtype=torch.int32), generator=torch.Generator().manual_seed(0))
    assert torch.bincount(policy(TensorDict())["action"] + 1).float().div(4000).sub(0.25).abs().max() < 0.03


def test_a_probability_outside_zero_and_one_is_refused():
    with pytest.raises(ValueError, match="repeat_probability"):
        RandomPolicy(OneHot(2), 1.5)
