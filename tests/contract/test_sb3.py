"""Clauses of SB3's VecEnv, for every model."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, DQN, PPO, SAC
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from tests.support.drive import some_states, view_of, views
from tests.support.flat_extractor import Flat
from tests.support.observations import equal, leaves
from wmcomponents.dream import PoolStarts
from wmcomponents.integrations.gymnasium import DreamEnv
from wmcomponents.integrations.sb3 import DreamVecEnv


def vec_of(model, rows=4, view=None, horizon=5, **options):
    starts = PoolStarts(some_states(model, 6))
    return DreamVecEnv(model, rows, starts=starts, view=view or view_of(model), horizon=horizon, **options)


def sampled(env):
    return np.stack([env.action_space.sample() for _ in range(env.num_envs)])


# Bounds of actions and sizes of images are the real environment's.
@pytest.mark.filterwarnings("ignore:.*we recommend", "ignore:The minimal resolution for an image")
def test_sb3_check_env_passes_in_every_view(model):
    for view in views(model):
        check_env(DreamEnv(model, view=view, horizon=5), skip_render_check=True)


def test_attributes_are_asked_for_before_and_after_construction(model):
    env = vec_of(model, render_mode="rgb_array")
    assert env.render_mode == "rgb_array" and env.get_attr("render_mode") == ["rgb_array"] * 4
    assert env.get_attr("num_envs", indices=[0, 2]) == [4, 4] and env.get_attr("num_envs", indices=1) == [4]
    env.set_attr("note", 5)
    assert env.get_attr("note") == [5] * 4
    with pytest.raises(ValueError, match="share one model"):
        env.set_attr("note", 6, indices=[0])
    env.reset()
    (frames,) = env.env_method("get_images", indices=[1])
    assert len(frames) == 4 and frames[0].shape[-1] == 3 and env.render().shape[-1] == 3
    assert env.env_is_wrapped(VecMonitor) == [False] * 4
    assert not env.has_attr("nothing_of_this_name")
    with pytest.raises(ValueError, match="render_mode"):
        vec_of(model, render_mode="human")


def test_reset_gives_the_observation_only(model):
    env = vec_of(model)
    observation = env.reset()
    assert env.reset_infos == [{}] * 4
    for key in observation if isinstance(observation, dict) else [None]:
        value = observation if key is None else observation[key]
        space = env.observation_space if key is None else env.observation_space[key]
        assert value.shape == (4, *space.shape) and value.dtype == space.dtype


def test_a_seed_is_stored_used_at_the_next_reset_and_forgotten(model):
    env = vec_of(model, rows=8)
    env.seed(3)
    first = env.reset()
    assert env._seeds == [None] * 8
    second = env.reset()
    env.seed(3)
    assert equal(env.reset(), first) and equal(env.reset(), second)
    assert not equal(first, second)


def test_steps_have_the_layout_of_the_contract(model):
    env = vec_of(model, termination="off")
    env.reset()
    observation, rewards, dones, infos = env.step(sampled(env))
    assert rewards.shape == dones.shape == (4,) and rewards.dtype == np.float32 and dones.dtype == np.bool_
    assert infos == [{}] * 4 and len({id(info) for info in infos}) == 4
    _, _, _, later = env.step(sampled(env))
    assert not {id(info) for info in infos} & {id(info) for info in later}


def test_finished_rows_show_the_reset_and_tell_how_they_ended(model):
    env = vec_of(model, rows=32, horizon=2)
    twin = vec_of(model, rows=32, horizon=2)
    env.seed(0), twin.seed(0)
    env.reset(), twin.reset()
    ended, cut = 0, 0
    for _ in range(9):
        action = sampled(env)
        expected = twin.simulator.step(twin.reader(action, 32))
        final = twin.writer.observation(expected.observation)
        twin.simulator.reset(twin.simulator.done) if bool(twin.simulator.done.any()) else None
        observation, _, dones, infos = env.step(action)
        for i, info in enumerate(infos):
            assert dones[i] == bool(expected.terminated[i] | expected.truncated[i])
            assert set(info) == ({"terminal_observation", "TimeLimit.truncated"} if dones[i] else set())
            if dones[i]:
                for a, b in zip(leaves(info["terminal_observation"]), leaves(final), strict=True):
                    np.testing.assert_array_equal(a, b[i])
                assert info["TimeLimit.truncated"] is (not bool(expected.terminated[i]))
                ended += not info["TimeLimit.truncated"]
                cut += info["TimeLimit.truncated"]
        assert (env.simulator.elapsed.flatten().numpy()[dones] == 0).all()
    assert cut > 0 and (ended > 0 or model.noise_source("imagine").empty)


def test_an_end_at_the_horizon_is_an_end_and_not_a_cut(model):
    env = vec_of(model, horizon=1, termination="threshold", reward=lambda s, a, n: torch.ones(4, 1))
    env.simulator.rules.imagine = ended(env.simulator.rules.imagine)
    env.reset()
    *_, dones, infos = env.step(sampled(env))
    assert dones.all() and not any(info["TimeLimit.truncated"] for info in infos)


def ended(imagine):
    def step(state, action, noise):
        prediction = imagine(state, action, noise)
        return prediction._replace(cont=torch.zeros_like(prediction.cont))

    return step


def test_arrays_belong_to_the_caller(model):
    env, witness = vec_of(model), vec_of(model)
    env.seed(0), witness.seed(0)
    for value in leaves(env.reset()):
        value.fill(0)
    witness.reset()
    for _ in range(7):
        action = sampled(env)
        ours, theirs = env.step(action.copy()), witness.step(action)
        assert equal(ours[0], theirs[0]) and np.array_equal(ours[1], theirs[1]) and np.array_equal(ours[2], theirs[2])
        for value in (*leaves(ours[0]), *ours[1:3]):
            value.fill(0)


def test_rewards_of_a_users_function_are_not_the_state(model):
    """SB3 adds the bootstrap value to the rewards in place."""
    key, leaf = next(iter(model.state_spec.items()))
    env = vec_of(model, reward=lambda s, a, after: after[key].reshape(4, -1)[:, :1])
    env.reset()
    _, rewards, _, _ = env.step(sampled(env))
    before = env.simulator.state[key].clone()
    rewards += 100
    assert torch.equal(env.simulator.state[key], before)


def policy_of(env):
    space = env.observation_space
    if isinstance(space, spaces.Dict):
        return "MultiInputPolicy"
    # SB3's convolutions need 36 pixels a side.
    return "CnnPolicy" if len(space.shape) == 3 and min(space.shape[:2]) >= 36 else "MlpPolicy"


@pytest.mark.parametrize("algorithm", [PPO, A2C, SAC, DQN], ids=lambda a: a.__name__)
@pytest.mark.parametrize("view", ["decoded", "latent", "both"])
def test_sb3_agents_learn_inside_the_dream(model, algorithm, view):
    if view not in views(model):
        pytest.skip(f"the model has no {view} view")
    env = VecMonitor(vec_of(model, view=view))
    discrete = isinstance(env.action_space, spaces.Discrete)
    if (algorithm is SAC and discrete) or (algorithm is DQN and not discrete):
        pytest.skip(f"{algorithm.__name__} does not act in {env.action_space}")
    options = {"device": "cpu", "seed": 0}
    if policy_of(env) == "MultiInputPolicy":
        options["policy_kwargs"] = {"features_extractor_class": Flat}
    if algorithm is PPO:
        options |= {"n_steps": 8, "batch_size": 16, "n_epochs": 1}
    if algorithm in (SAC, DQN):
        options |= {"learning_starts": 16, "buffer_size": 200, "batch_size": 8}
    agent = algorithm(policy_of(env), env, **options).learn(96)
    assert len(agent.ep_info_buffer) > 0 and {info["l"] for info in agent.ep_info_buffer} <= set(range(1, 6))


def test_vec_normalize_wraps_the_dream(model):
    env = vec_of(model)
    if not isinstance(env.observation_space, spaces.Box) or env.observation_space.dtype != np.float32:
        pytest.skip("VecNormalize is for vectors of floats")
    env = VecNormalize(env)
    env.reset()
    for _ in range(6):
        observation, *_ = env.step(sampled(env))
        assert np.isfinite(observation).all()
