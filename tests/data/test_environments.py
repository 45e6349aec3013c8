import sys

import numpy as np
import pytest
import torch
from torchrl.data import Bounded, OneHot
from torchrl.envs import EnvBase, check_env_specs

from wmcomponents._extras import MissingExtraError
from wmcomponents.data import UnknownEnvironmentError, action_spec, make_env, observation_spec

IMAGE = {"pixels": ((64, 64, 3), torch.uint8)}

# id, arguments, observation, kind of action
FAMILIES = [
    pytest.param("CartPole-v1", {}, {"observation": ((4,), torch.float32)}, OneHot, id="cartpole"),
    pytest.param("Pendulum-v1", {}, {"observation": ((3,), torch.float32)}, Bounded, id="pendulum"),
    pytest.param("CartPole-v1", {"from_pixels": True}, IMAGE, OneHot, id="cartpole pixels"),
    pytest.param("CarRacing-v3", {}, IMAGE, Bounded, id="car racing"),
    pytest.param("ALE/Pong-v5", {}, IMAGE, OneHot, id="pong"),
    pytest.param("MinAtar/Breakout-v1", {}, {"observation": ((10, 10, 4), torch.bool)}, OneHot, id="minatar"),
    pytest.param(
        "MinAtar/Breakout-v1",
        {"from_pixels": True, "image_size": 16},
        {"pixels": ((16, 16, 3), torch.uint8)},
        OneHot,
        id="minatar pixels",
    ),
    pytest.param(
        "dm_control/cartpole-swingup",
        {},
        {"position": ((3,), torch.float32), "velocity": ((2,), torch.float32)},
        Bounded,
        id="dm_control",
    ),
    pytest.param(
        "dm_control/cartpole-swingup",
        {"from_pixels": True},
        IMAGE,
        Bounded,
        id="dm_control pixels",
    ),
]


def run(env: EnvBase, steps: int):
    return env.rollout(steps, break_when_any_done=False, auto_cast_to_device=True)


@pytest.mark.parametrize(("env_id", "kwargs", "observation", "action"), FAMILIES)
def test_each_family_shows_what_it_says_in_the_layout_it_says(env_id, kwargs, observation, action):
    env = make_env(env_id, seed=0, **kwargs)
    shown, acts = observation_spec(env), action_spec(env)
    assert {key: (tuple(leaf.shape), leaf.dtype) for key, leaf in shown.items()} == observation
    assert isinstance(acts, action)
    assert env.batch_size == ()
    data = run(env, 6)
    for key, (shape, dtype) in observation.items():
        for place in (data[key], data["next", key]):
            assert place.shape == (6, *shape) and place.dtype == dtype
        assert shown[key].is_in(data[key][0])
    assert acts.is_in(data["action"][0]) and (action is OneHot or data["action"].dtype == torch.float32)
    assert data["next", "reward"].shape == (6, 1) and data["next", "reward"].dtype == torch.float32
    for flag in ("terminated", "truncated", "done"):
        assert data["next", flag].shape == (6, 1) and data["next", flag].dtype == torch.bool
    assert data["is_init"].squeeze(-1).tolist() == [True] + [False] * 5
    env.close()


@pytest.mark.parametrize("env_id", ["CartPole-v1", "MinAtar/Breakout-v1", "dm_control/cartpole-swingup"])
@pytest.mark.parametrize("num_envs", [1, 2])
def test_the_specs_hold_for_torchrl(env_id, num_envs):
    env = make_env(env_id, num_envs=num_envs)
    check_env_specs(env, seed=0)
    env.close()


@pytest.mark.parametrize(
    ("env_id", "key"),
    [
        ("CartPole-v1", "observation"),
        ("MinAtar/Breakout-v1", "observation"),
        ("dm_control/cartpole-swingup", "position"),
    ],
)
def test_the_next_observation_is_the_one_that_follows_within_an_episode(env_id, key):
    data = run(make_env(env_id, seed=1), 60)
    same = (data["next", key][:-1] == data[key][1:]).flatten(1).all(1)
    begins = data["is_init"][1:, 0]
    assert same[~begins].all()
    changes = (data[key][1:] != data[key][:-1]).flatten(1).any(1)
    assert changes.any()  # nothing aliases one buffer of the environment


def test_the_observation_an_episode_ended_in_stands_under_next():
    env = make_env("CartPole-v1", seed=0)
    data = run(env, 60)
    ends = data["next", "terminated"][:, 0].nonzero()[:, 0]
    assert len(ends) >= 2
    for end in ends[:-1].tolist():
        position, _, angle, _ = data["next", "observation"][end].tolist()
        assert abs(position) > 2.4 or abs(angle) > 12 * 2 * np.pi / 360  # out of bounds, as an end is
        assert data["observation"][end + 1].abs().max() <= 0.05  # where an episode begins
        assert data["is_init"][end + 1]


def test_a_batched_environment_ends_its_rows_on_their_own():
    env = make_env("CartPole-v1", num_envs=3, seed=0)
    data = run(env, 80)
    assert data.batch_size == (3, 80)
    assert data["is_init"][:, 1:].equal(data["next", "done"][:, :-1])
    assert not data["observation"][0, 0].equal(data["observation"][1, 0])  # each row has its own seed
    ends = data["next", "terminated"][..., 0]
    assert ends.any(1).all() and (data["next", "observation"][ends].abs() > 0.2).any(1).all()


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "MinAtar/Asterix-v1", "dm_control/cup-catch"])
def test_a_seed_fixes_what_the_environment_does(env_id):
    def rolled(seed):
        env = make_env(env_id, seed=seed)
        torch.manual_seed(0)  # the random actions of rollout
        return run(env, 20).select(*observation_spec(env).keys(), ("next", "reward"))

    assert (rolled(3) == rolled(3)).all()
    assert not (rolled(3) == rolled(4)).all()


def test_float64_becomes_float32_in_observations_actions_and_rewards():
    env = make_env("dm_control/walker-walk")
    assert {leaf.dtype for leaf in observation_spec(env).values()} == {torch.float32}
    assert action_spec(env).dtype == env.reward_spec.dtype == torch.float32


def test_max_episode_steps_truncates_and_counts():
    data = run(make_env("Pendulum-v1", max_episode_steps=5), 11)
    truncated = data["next", "truncated"][:, 0].nonzero()[:, 0]
    assert truncated.tolist() == [4, 9]
    assert not data["next", "terminated"].any()


def test_the_steps_of_a_count_are_no_observation():
    env = make_env("CartPole-v1", max_episode_steps=5)
    assert set(observation_spec(env).keys()) == {"observation"}


def test_dm_control_repeats_each_action_twice_and_sums_the_rewards():
    data = run(make_env("dm_control/cartpole-balance", seed=0), 500)
    assert data["next", "truncated"][:, 0].nonzero()[:, 0].tolist() == [499]
    assert data["next", "reward"].max() > 1.0  # two rewards of at most 1
    assert run(make_env("dm_control/cartpole-balance", action_repeat=1), 3)["next", "reward"].max() <= 1.0


def test_action_repeat_reaches_a_gymnasium_environment():
    torch.manual_seed(0)
    data = run(make_env("CartPole-v1", action_repeat=4, seed=0), 3)
    assert (data["next", "reward"] == 4).all()


def test_the_short_name_cup_means_ball_in_cup():
    assert set(observation_spec(make_env("dm_control/cup-catch")).keys()) == {"position", "velocity"}


def test_atari_keeps_its_own_stickiness_unless_told():
    def stickiness(**kwargs):
        return make_env("ALE/Pong-v5", **kwargs).unwrapped.ale.getFloat("repeat_action_probability")

    assert stickiness() == 0.25
    assert stickiness(sticky_actions=0.0) == 0.0


def test_atari_images_take_the_size_asked_for():
    env = make_env("ALE/Pong-v5", image_size=96)
    assert env.reset()["pixels"].shape == (96, 96, 3)
    assert make_env("ALE/Pong-v5", image_size=None).reset()["pixels"].shape == (210, 160, 3)


def test_car_racing_keeps_its_own_size_when_asked():
    assert make_env("CarRacing-v3", image_size=None).reset()["pixels"].shape == (96, 96, 3)


def test_minatar_leaves_the_root_logger_alone():
    import logging

    handlers = list(logging.getLogger().handlers)
    sys.modules.pop("minatar.gym", None)
    make_env("MinAtar/Freeway-v1").close()
    assert logging.getLogger().handlers == handlers


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("CartPol-v1", "CartPole-v1"),
        ("cartpole", "CartPole-v1"),
        ("CartPole-v7", "CartPole-v1"),
        ("ALE/Pongg-v5", "ALE/Pong-v5"),
        ("MinAtar/Breakot-v1", "MinAtar/Breakout-v1"),
        ("dm_control/cartpole-swingp", "dm_control/cartpole-swingup"),
        ("nowhere/Thing-v0", "register_envs"),
        ("", "dm_control/<domain>-<task>"),
    ],
)
def test_an_unknown_id_names_the_close_ones_and_what_would_make_it_known(wrong, meant):
    with pytest.raises(UnknownEnvironmentError, match=meant.replace("(", r"\(")):
        make_env(wrong)


@pytest.mark.parametrize(
    ("env_id", "module", "extra"),
    [
        ("CartPole-v1", "gymnasium", "gym"),
        ("ALE/Pong-v5", "ale_py", "atari"),
        ("ALE/Pong-v5", "cv2", "atari"),
        ("MinAtar/Breakout-v1", "minatar", "minatar"),
        ("dm_control/cartpole-swingup", "dm_control", "dmc"),
        ("CarRacing-v3", "Box2D", "box2d"),
        ("gym_pusht/PushT-v0", "gym_pusht", "goals"),
        ("wmcomponents/PushT-v0", "gym_pusht", "goals"),
        ("wmcomponents/PointMaze-v0", "gymnasium_robotics", "goals"),
    ],
)
def test_a_missing_package_names_its_extra(monkeypatch, env_id, module, extra):
    import gymnasium

    for name in [name for name in gymnasium.registry if name.startswith("MinAtar/")]:
        monkeypatch.delitem(gymnasium.registry, name)
    for name in [name for name in sys.modules if name == module or name.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.startswith("gymnasium.envs.box2d")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"wmcomponents\[{extra}\]"):
        make_env(env_id)


@pytest.mark.parametrize("name", ["num_envs", "image_size", "action_repeat", "max_episode_steps"])
def test_a_count_below_one_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} is at least 1; got 0"):
        make_env("CartPole-v1", **{name: 0})


def test_sticky_actions_are_refused_where_there_are_none():
    with pytest.raises(ValueError, match="Atari and MinAtar"):
        make_env("CartPole-v1", sticky_actions=0.1)


def test_minatar_in_pixels_shows_its_board():
    boards = run(make_env("MinAtar/Breakout-v1", seed=3), 8)
    env = make_env("MinAtar/Breakout-v1", seed=3, from_pixels=True, image_size=24)
    pixels = env.reset()["pixels"]
    assert pixels.shape == (24, 24, 3)
    assert not pixels[:2].any() and not pixels[:, :2].any()  # a border: 2 times 10 in the middle of 24
    board = boards["observation"][0]
    shown = pixels[2:22:2, 2:22:2].any(-1)
    assert torch.equal(shown, board.any(-1)) and torch.equal(pixels[2:22:2, 2:22:2], pixels[3:22:2, 3:22:2])
    with pytest.raises(ValueError, match="needs an image of that size"):
        make_env("MinAtar/Breakout-v1", from_pixels=True, image_size=8).reset()
