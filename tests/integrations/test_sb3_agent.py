"""SB3's algorithms as agents."""

import copy

import numpy as np
import pytest
import torch
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import PPO, SAC, HerReplayBuffer
from stable_baselines3.common.evaluation import evaluate_policy
from tensordict import TensorDict
from torchrl.data import Bounded, Composite, MultiOneHot, OneHot
from torchrl.envs.utils import ExplorationType, set_exploration_type

from tests.support.models import IMAGE, MIXED, VECTOR
from tests.support.online_runs import SCHEDULE, run
from wmcomponents.agents import Agent
from wmcomponents.dream.experience import Experience
from wmcomponents.dream.starts import PoolStarts
from wmcomponents.integrations.sb3 import DreamVecEnv
from wmcomponents.integrations.sb3_agent import SB3Agent, algorithm_named
from wmcomponents.testing.toy import ToyWorldModel
from wmcomponents.training.nested_state import load_nested, save_nested
from wmcomponents.world_model import CapabilityError, LatentPolicy

NUMBERS = Bounded(-1.0, 1.0, (2,))
SMALL = {"dreams": 4, "horizon": 5, "policy_kwargs": {"net_arch": [8]}}
ON, OFF = {"round_steps": 32, "batch_size": 16}, {"round_steps": 24, "learning_starts": 8, "batch_size": 8}
ALGORITHMS = {
    "ppo": (OneHot(3), ON),
    "a2c": (NUMBERS, {"round_steps": 40}),
    "trpo": (OneHot(3), ON),
    "dqn": (OneHot(3), OFF),
    "qrdqn": (OneHot(3), OFF),
    "sac": (NUMBERS, OFF),
    "td3": (NUMBERS, OFF),
    "ddpg": (NUMBERS, OFF),
    "tqc": (NUMBERS, OFF),
}


def made(name, observed=VECTOR, seed=0, **changes):
    action, options = ALGORITHMS[name]
    model = ToyWorldModel(observed, changes.pop("action", action), noise="normal")
    return SB3Agent(name, model, seed=seed, **{**SMALL, **options, **changes})


def experience(agent):
    torch.manual_seed(0)
    pool = agent.model.initial_state((6,))
    return Experience(agent.model, starts=PoolStarts({key: torch.rand_like(value) for key, value in pool.items()}))


def weights(agent):
    return {name: value.clone() for name, value in agent.algorithm.policy.state_dict().items()}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_each_algorithm_learns_and_goes_on_from_its_state_to_the_bit(name, tmp_path):
    agent = made(name)
    assert isinstance(agent, Agent)
    begun, seen = weights(agent), experience(agent)
    for _ in range(3):
        agent.learn(seen)
    assert any(not torch.equal(begun[key], value) for key, value in weights(agent).items())
    save_nested(tmp_path / "agent.safetensors", agent.state_dict())
    other = made(name)
    other.load_state_dict(load_nested(tmp_path / "agent.safetensors"))
    assert other.dreamed_steps == agent.dreamed_steps > 0
    torch.rand(3), np.random.rand(3)  # what others draw does not matter
    told = [one.learn(seen) for one in (agent, other)]
    assert told[0] == told[1]
    assert "return" in told[0]
    for (key, value), found in zip(weights(agent).items(), weights(other).values(), strict=True):
        assert torch.equal(value, found), key


@pytest.mark.parametrize("observed", [IMAGE, MIXED], ids=["image", "dict"])
@pytest.mark.parametrize("view", ["decoded", "latent"])
def test_replay_of_images_and_dicts_goes_on_too(observed, view):
    agent = made("dqn", observed, view=view, policy="MlpPolicy" if observed is IMAGE else None, buffer_size=40)
    seen = experience(agent)
    agent.learn(seen), agent.learn(seen)
    state = copy.deepcopy(agent.state_dict())
    other = made("dqn", observed, view=view, policy="MlpPolicy" if observed is IMAGE else None, buffer_size=40)
    other.load_state_dict(state)
    agent.learn(seen), other.learn(seen)
    for (key, value), found in zip(weights(agent).items(), weights(other).values(), strict=True):
        assert torch.equal(value, found), key


def test_nobodys_generator_is_moved():
    torch.manual_seed(7), np.random.seed(7)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(7), np.random.seed(7)
    agent = made("ppo")
    agent.learn(Experience(agent.model))
    assert (torch.rand(1), np.random.rand()) == expected


def test_vectors_are_seen_as_they_are_and_images_as_features():
    assert made("ppo").view == "decoded"
    assert made("ppo", IMAGE).view == "latent"
    assert isinstance(made("ppo", IMAGE).real_policy, LatentPolicy)
    blind = ToyWorldModel(VECTOR, OneHot(2), parts=("features", "reward"))
    assert SB3Agent("ppo", blind, **SMALL, **ON).view == "latent"


def test_dream_and_reality_take_the_same_action_for_the_same_sight():
    agent = made("ppo")
    seen = TensorDict(observation=torch.rand(5, 3), batch_size=[5])
    with set_exploration_type(ExplorationType.MODE):
        one, other = (policy(seen.clone())["action"] for policy in (agent.dream_policy, agent.real_policy))
    assert torch.equal(one, other)
    array, _ = agent.predict(seen["observation"].numpy(), deterministic=True)
    assert one.int().argmax(-1).tolist() == array.tolist()


def test_it_explores_where_torchrl_says_so():
    agent = made("sac")
    seen = TensorDict(observation=torch.rand(1, 3).expand(20, 3), batch_size=[20])
    with set_exploration_type(ExplorationType.RANDOM):
        assert agent.dream_policy(seen.clone())["action"].std(0).min() > 0.01
    with set_exploration_type(ExplorationType.MODE):
        assert agent.dream_policy(seen.clone())["action"].std(0).max() < 1e-6


def test_what_is_drawn_outside_torch_goes_on_from_the_state_and_moves_nobodys_generator():
    seen = TensorDict(observation=torch.rand(1, 3), batch_size=[1])

    def acts(agent, count):
        with set_exploration_type(ExplorationType.RANDOM):
            return [agent.real_policy(seen.clone())["action"].int().argmax(-1).item() for _ in range(count)]

    agent, again = made("dqn"), made("dqn")
    agent.algorithm.exploration_rate = 0.8
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    acts(agent, 9)
    state = copy.deepcopy(agent.state_dict())
    expected = acts(agent, 30)
    assert (np.random.get_state()[1] == before).all() and len(set(expected)) == 3
    np.random.seed(2), again.algorithm.action_space.seed(5)
    again.load_state_dict(state)
    assert acts(again, 30) == expected


def test_an_online_run_by_dqn_goes_on_to_the_bit(tmp_path):
    def agent(model):
        made = SB3Agent("dqn", model, dreams=2, policy_kwargs={"net_arch": [8]}, buffer_size=100)
        made.algorithm.exploration_rate = 0.5
        return made

    short = SCHEDULE.vary(prefill=12, evaluate_every=0, agent_every=100)  # it acts, and learns nothing
    straight = run(schedule=short, agent=agent)
    np.random.seed(1)
    straight.train(36)
    for seed, steps in ((2, 20), (3, 36)):
        parts = run(tmp_path, schedule=short, agent=agent)
        np.random.seed(seed)
        parts.train(steps)
    assert straight.episodes == parts.episodes and torch.equal(straight.replay[:]["action"], parts.replay[:]["action"])


def test_sb3s_evaluate_policy_takes_it():
    agent = made("ppo")
    mean, _ = evaluate_policy(agent, DreamVecEnv(agent.model, 1, horizon=3, seed=0), 2, warn=False)
    assert np.isfinite(mean)


def test_annealing_runs_over_its_own_number_of_steps():
    agent = made("dqn", schedule_steps=96, exploration_fraction=0.5)
    rates = []
    for _ in range(3):
        agent.learn(Experience(agent.model))
        rates.append(agent.algorithm.exploration_rate)
    assert rates == pytest.approx([1.0 - 0.95 * 32 / 48, 0.05, 0.05])
    assert made("ppo", learning_rate=lambda left: left * 1e-3, schedule_steps=64).algorithm.schedule_steps == 64


@pytest.mark.parametrize(
    ("name", "action", "said"),
    [
        ("sac", OneHot(3), "SAC cannot run.*not numbers: choose an agent"),
        ("dqn", NUMBERS, "DQN cannot run.*not one choice: choose an agent"),
        ("dqn", MultiOneHot([2, 3]), "not one choice"),
    ],
)
def test_wrong_actions_are_refused_with_the_remedy(name, action, said):
    with pytest.raises(CapabilityError, match=said):
        made(name, action=action)


def test_a_model_without_reward_is_refused_unless_one_is_given():
    model = ToyWorldModel(VECTOR, OneHot(3), parts=("decode",))
    with pytest.raises(CapabilityError, match=r"no reward: pass reward="):
        SB3Agent("ppo", model, **SMALL, **ON)
    options = {"reward": lambda state, action, after: torch.ones(4, 1)}
    agent = SB3Agent("ppo", model, dream=options, **SMALL, **ON)
    assert agent.learn(Experience(model))["return"] == 5.0
    with pytest.raises(CapabilityError, match="no features"):
        SB3Agent("ppo", model, view="latent", dream=options, **SMALL, **ON)


def test_what_is_no_agent_is_refused_in_words():
    model = ToyWorldModel(VECTOR, OneHot(3))
    with pytest.raises(ValueError, match="algorithms ppo, a2c.*got 'reinforce'"):
        algorithm_named("reinforce")
    for kind in (RecurrentPPO, MaskablePPO):
        with pytest.raises(TypeError, match="memory or masks"):
            SB3Agent(kind, model)
    with pytest.raises(TypeError, match="a class of SB3's"):
        SB3Agent(int, model)  # pyright: ignore
    with pytest.raises(TypeError, match="cannot be kept"):
        made("dqn", MIXED, replay_buffer_class=type("Mine", (HerReplayBuffer,), {"__init__": lambda *a, **k: None}))


def test_the_state_of_another_agent_is_refused():
    state = made("ppo").state_dict()
    with pytest.raises(ValueError, match="the state is of PPO in the decoded view; this agent is A2C"):
        made("a2c").load_state_dict(state)
    agent = made("ppo")
    agent.learn(Experience(agent.model))
    with pytest.raises(ValueError, match="4 dreams side by side; this agent has dreams=8"):
        made("ppo", dreams=8).load_state_dict(agent.state_dict())


def test_its_file_is_sb3s_own(tmp_path):
    agent = made("ppo")
    agent.learn(Experience(agent.model))
    agent.algorithm.save(tmp_path / "agent.zip")
    found = PPO.load(tmp_path / "agent.zip", device="cpu").policy.state_dict()
    assert all(torch.equal(found[key], value) for key, value in weights(agent).items())
    assert algorithm_named("SAC") is SAC


def test_a_spec_of_one_entry_stays_what_it_is():
    assert list(made("ppo", Composite(where=OneHot(4))).dream_policy.in_keys) == ["where"]
