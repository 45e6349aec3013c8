"""Agents under Stable-Baselines3's ``predict``: alone, in its evaluation, in a plain loop, and as a collector acts."""

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from tensordict import TensorDict
from torchrl.envs.utils import ExplorationType, set_exploration_type

from wmcomponents.agents import DreamerV1Agent, DreamerV3Agent
from wmcomponents.data import make_env
from wmcomponents.integrations.player import Player
from wmcomponents.integrations.spaces import SpaceError


@pytest.fixture(scope="module")
def agent():
    agent = DreamerV3Agent.tiny("CartPole-v1", progress=False)
    agent.behaviour.loss.actor.out.weight.data.normal_()  # so that actions depend on what is seen
    agent.behaviour.real_policy.module[0]._noise = None  # the filter's mode, so that both sides see the same latents
    return agent


def test_an_episode_is_played_as_a_rollout_plays_it(agent):
    real = make_env("CartPole-v1", seed=3)
    real.append_transform(agent.real_policy.make_tensordict_primer())
    with set_exploration_type(ExplorationType.DETERMINISTIC), torch.no_grad():
        played = real.rollout(30, agent.real_policy)
    player, state, begins = Player(agent), None, np.ones(1, bool)
    for step in played.unbind(0):
        action, state = player.predict(step["observation"].numpy(), state, begins)
        assert int(action) == int(step["action"].argmax())
        begins = np.zeros(1, bool)
    assert len(played) > 3


def test_a_policy_s_actions_on_latents_are_those_of_the_dream(agent):
    real = make_env("CartPole-v1", seed=4)
    real.append_transform(agent.real_policy.make_tensordict_primer())
    with set_exploration_type(ExplorationType.DETERMINISTIC), torch.no_grad():
        played = real.rollout(10, agent.real_policy)
        dreamt = agent.dream_policy(TensorDict({"latent": played["latent"]}, played.batch_size))
    assert torch.equal(played["action"], dreamt["action"])


def test_sb3_evaluates_it_alone_and_side_by_side(agent):
    mean, _ = evaluate_policy(Player(agent), gymnasium.make("CartPole-v1"), n_eval_episodes=2, warn=False)
    assert mean > 0
    four = make_vec_env("CartPole-v1", n_envs=4, seed=0)
    assert evaluate_policy(Player(agent), four, n_eval_episodes=4)[0] > 0


def test_rows_do_not_hear_of_each_other_and_begin_by_themselves(agent):
    player = Player(agent)
    seen = np.random.default_rng(0).normal(size=(4, 3, 4)).astype(np.float32)
    state, begins = None, np.ones(3, bool)
    for t, observation in enumerate(seen):
        begins = np.array([t == 0, t in (0, 2), t == 0])
        actions, state = player.predict(observation, state, begins)
    alone, own = [], None
    for t in (2, 3):
        action, own = player.predict(seen[t, 1], own)
        alone.append(int(action))
    assert actions.shape == (3,) and int(actions[1]) == alone[-1]


def test_numbers_come_in_the_space_s_own_units():
    player = Player(DreamerV1Agent.tiny("Pendulum-v1", progress=False))
    action, _ = player.predict(np.zeros(3, np.float32), deterministic=False)
    assert action.shape == (1,) and player.action_space.contains(np.clip(action, -2, 2))


def test_what_is_no_observation_is_refused(agent):
    with pytest.raises(SpaceError, match="shape"):
        Player(agent).predict(np.zeros(5, np.float32))
