"""PushT and PointMaze as worlds of goals: states are set exactly, goals look as they do when reached, seeds repeat."""

import contextlib
import importlib.util

import numpy as np
import pytest
import torch

from wmcomponents.data import make_env

if any(importlib.util.find_spec(name) is None for name in ("gym_pusht", "gymnasium_robotics")):
    pytest.skip("the extra 'goals' is not installed", allow_module_level=True)

from wmcomponents.data.goal_states import pairs_of
from wmcomponents.data.point_maze import PointMaze
from wmcomponents.data.push_t import PushT

WORLDS = {"wmcomponents/PushT-v0": PushT, "wmcomponents/PointMaze-v0": PointMaze}


@pytest.fixture(scope="module", params=[PushT, PointMaze])
def world(request):
    with contextlib.closing(request.param(goal=True, proprioception=True)) as made:
        yield made


def walked(world, actions):
    return np.stack([world.step(action)[4]["state"] for action in actions])


def test_a_state_that_is_set_goes_on_as_it_did(world):
    world.reset(seed=3)
    draw = np.random.default_rng(0)
    walked(world, draw.uniform(-1, 1, (12, 2)))
    state, actions = world.state, draw.uniform(-1, 1, (8, 2))
    first = walked(world, actions)
    _, info = world.reset(options={"state": state, "goal": state})
    assert np.allclose(info["state"], state, atol=1e-9) and info["is_success"] and info["distance"] < 1e-9
    assert np.allclose(walked(world, actions), first, atol=1e-6)


def test_the_goal_looks_and_feels_as_it_does_when_it_is_reached(world):
    seen, info = world.reset(seed=5)
    assert not info["is_success"]
    there, at_goal = world.reset(options={"state": info["goal"]})
    assert (there["pixels"] == seen["desired_pixels"]).all()
    assert np.allclose(there["proprioception"], seen["desired_proprioception"], atol=1e-4)
    assert (there["pixels"] != seen["pixels"]).any()
    _, _, terminated, truncated, info = world.step(np.zeros(2))
    assert terminated == info["is_success"] and not truncated


def test_a_seed_repeats_starts_and_goals_and_another_one_does_not(world):
    def drawn(seed):
        _, info = world.reset(seed=seed)
        return np.concatenate([info["state"], info["goal"]])

    first = drawn(1)
    assert (drawn(1) == first).all() and not (drawn(2) == first).all()


def test_episodes_begin_and_aim_at_the_pairs_that_are_given(world):
    _, info = world.reset(seed=0)
    pairs = pairs_of(np.stack([info["state"], info["goal"], info["state"]]), apart=1)
    with contextlib.closing(type(world)(pairs=pairs)) as made:
        _, found = made.reset(seed=0)
        assert any(np.allclose(np.stack([found["state"], found["goal"]]), pair, atol=1e-6) for pair in pairs)


@pytest.mark.parametrize("pairs", [np.zeros((3, 2, 5)), np.zeros((0, 2, 7)), np.full((1, 2, 7), np.nan), [1.0]])
def test_pairs_of_another_world_are_refused(pairs):
    with pytest.raises(ValueError, match=r"pairs of PushT are finite numbers \[M, 2, 7\]"):
        PushT(pairs=pairs)


def test_a_state_of_another_world_a_map_that_is_none_and_too_short_an_episode_are_refused(world):
    with pytest.raises(ValueError, match="goal of .* are finite numbers"):
        world.reset(options={"goal": [1.0]})
    with pytest.raises(ValueError, match="maze is one of .*U_MAZE"):
        PointMaze(maze="U-Maze")
    with pytest.raises(ValueError, match="longer than 3 steps"):
        pairs_of(np.zeros((3, 2)), apart=3)


def test_what_is_felt_stands_alone_where_no_image_is_wanted_and_nothing_at_all_is_refused():
    env = make_env(PushT, env_kwargs={"goal": True, "proprioception": True, "pixels": False}, seed=0)
    assert sorted(env.observation_spec.keys()) == ["desired_goal", "is_init", "proprioception"]
    assert env.reset()["desired_goal"].shape == (4,)
    with pytest.raises(ValueError, match="shows pixels, proprioception or both"):
        PushT(pixels=False)


def test_a_block_counts_as_there_only_when_it_is_turned_right():
    world = PushT()
    goal = np.array([100.0, 100, 200, 200, 0.1, 0, 0])
    assert world.near(goal + [0, 19, 0, 0, np.pi / 9 - 0.01, 9, 9], goal)
    assert world.near(goal + [0, 0, 0, 0, 2 * np.pi - 0.3, 0, 0], goal)
    assert not world.near(goal + [0, 0, 0, 0, np.pi / 9 + 0.01, 0, 0], goal)
    assert not world.near(goal + [15, 0, 15, 0, 0, 0, 0], goal)


def test_the_ball_stays_within_the_maze_and_its_walls_hold():
    with contextlib.closing(PointMaze()) as world:
        # From the lower left cell the way up is a wall: it leads around, over the right.
        world.reset(seed=0, options={"state": [-1.0, -1.0, 0.0, 0.0], "goal": [-1.0, 1.0, 0.0, 0.0]})
        states = walked(world, [[0.0, 1.0]] * 40)
        assert -1.0 < states[-1, 1] < -0.5 and abs(states[-1, 0] + 1.0) < 1e-3


def test_an_action_that_is_held_is_as_many_short_ones():
    begun = {"state": [-1.0, -1.0, 0.0, 0.0], "goal": [-1.0, 1.0, 0.0, 0.0]}
    with contextlib.closing(PointMaze(held=10)) as long, contextlib.closing(PointMaze()) as short:
        long.reset(options=begun)
        short.reset(options=begun)
        assert np.allclose(walked(long, [[1.0, 0.5]] * 3), walked(short, [[1.0, 0.5]] * 6)[1::2], atol=1e-9)
    with pytest.raises(ValueError, match="held is steps"):
        PointMaze(held=0)


@pytest.mark.parametrize("env_id", list(WORLDS))
def test_they_are_made_by_their_id_with_and_without_a_goal(env_id):
    plain = make_env(env_id, seed=0)
    assert plain.rollout(2)["pixels"].shape == (2, 64, 64, 3)
    plain.close()
    env = make_env(env_id, env_kwargs={"goal": True}, num_envs=2, seed=0)
    rolled = env.rollout(2)
    assert rolled["desired_goal"].shape == (2, 2, 64, 64, 3) and (rolled["next", "reward"] < 0).all()
    assert not torch.equal(rolled["desired_goal"][0], rolled["desired_goal"][1])
    env.close()


@pytest.mark.parametrize(
    ("env_id", "options", "shown"),
    [
        ("gym_pusht/PushT-v0", {}, {"observation": (5,)}),
        (
            "gym_pusht/PushT-v0",
            {"env_kwargs": {"obs_type": "pixels_agent_pos"}, "image_size": 64},
            {"pixels": (64, 64, 3), "agent_pos": (2,)},
        ),
        ("PointMaze_UMaze-v3", {}, {"observation": (4,), "achieved_goal": (2,), "desired_goal": (2,)}),
        ("PointMaze_UMaze-v3", {"from_pixels": True}, {"pixels": (64, 64, 3)}),
    ],
)
def test_the_environments_they_come_from_are_made_by_their_own_ids(env_id, options, shown):
    env = make_env(env_id, seed=0, **options)
    rolled = env.rollout(2)
    assert {key: tuple(rolled[key].shape[1:]) for key in shown} == shown
    env.close()
