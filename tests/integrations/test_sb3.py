"""Any vector env for SB3, and SB3's agents as TensorDict policies; see tests/contract/test_sb3.py."""

import numpy as np
import pytest
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from sb3_contrib import RecurrentPPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize
from tensordict import TensorDict
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from tests.support.flat_extractor import Flat
from tests.support.models import IMAGE, MIXED, VECTOR, PointMass
from tests.support.real import LENGTH, Counts
from wmcomponents.integrations.gymnasium import DreamVectorEnv
from wmcomponents.integrations.sb3 import DreamVecEnv, GymnasiumVecEnv, SB3Policy
from wmcomponents.integrations.spaces import SpaceError
from wmcomponents.testing.toy import ToyWorldModel

MODES = list(AutoresetMode)


def counting(mode, rows=3, **options):
    return SyncVectorEnv(
        [lambda row=row: Counts(row, LENGTH + row, **options) for row in range(rows)], autoreset_mode=mode
    )


@pytest.mark.parametrize("as_dict", [False, True], ids=["vector", "dict"])
@pytest.mark.parametrize("ends", [False, True], ids=["truncates", "terminates"])
@pytest.mark.parametrize("mode", MODES, ids=[mode.name for mode in MODES])
def test_every_mode_gives_sb3s_same_step_exactly(mode, ends, as_dict):
    env = GymnasiumVecEnv(counting(mode, ends=ends, as_dict=as_dict))
    position = (lambda o: o["position"]) if as_dict else (lambda o: o)
    observation = env.reset()
    assert [info["begun"] for info in env.reset_infos] == [1, 1, 1]
    episode, clock = np.ones(3), np.zeros(3)
    for _ in range(15):
        np.testing.assert_array_equal(position(observation), np.stack([np.arange(3), episode, clock], 1))
        action = np.full((3, 2), 0.5, np.float32)
        observation, rewards, dones, infos = env.step(action)
        clock += 1
        np.testing.assert_array_equal(rewards, clock)
        assert rewards.dtype == np.float32
        for i in range(3):
            assert dones[i] == (clock[i] == LENGTH + i)
            assert infos[i]["clock"] == clock[i] and infos[i]["force"] == 0.5
            assert ("terminal_observation" in infos[i]) == ("TimeLimit.truncated" in infos[i]) == dones[i]
            if dones[i]:
                np.testing.assert_array_equal(position(infos[i]["terminal_observation"]), [i, episode[i], clock[i]])
                assert infos[i]["TimeLimit.truncated"] is (not ends)
                episode[i], clock[i] = episode[i] + 1, 0
                assert env.reset_infos[i]["begun"] == episode[i]


@pytest.mark.filterwarnings("ignore:.*use of fork")  # Python 3.12 warns where threads are about
def test_environments_in_other_processes_reset_at_once_too():
    env = GymnasiumVecEnv(AsyncVectorEnv([Counts, Counts], context="fork"))
    env.reset()
    episodes = [env.step(np.zeros((2, 2), np.float32))[0][0, 1:].tolist() for _ in range(7)]
    env.close()
    assert episodes == [[1, 1], [1, 2], [2, 0], [2, 1], [2, 2], [3, 0], [3, 1]]


@pytest.mark.parametrize("mode", MODES, ids=[mode.name for mode in MODES])
def test_dreams_come_through_the_generic_adapter_as_through_their_own(mode):
    own = DreamVecEnv(PointMass(), 3, horizon=4)
    generic = GymnasiumVecEnv(DreamVectorEnv(PointMass(), 3, horizon=4, autoreset_mode=mode))
    np.testing.assert_array_equal(own.reset(), generic.reset())  # a deterministic model starts where it starts
    for step in range(9):
        action = np.full((3, 1), np.sin(step), np.float32)
        one, other = own.step(action), generic.step(action)
        for a, b in zip(one[:3], other[:3], strict=True):
            np.testing.assert_array_equal(a, b)
        assert [set(info) for info in one[3]] == [set(info) for info in other[3]]


class IgnoresTheMask(VectorWrapper):
    def reset(self, *, seed=None, options=None):
        return self.env.reset(seed=seed)


def test_an_environment_that_resets_more_than_it_is_asked_to_is_found_out():
    env = GymnasiumVecEnv(IgnoresTheMask(counting(AutoresetMode.NEXT_STEP)))
    env.reset()
    with pytest.raises(ValueError, match="SAME_STEP"):
        for _ in range(LENGTH):
            env.step(np.zeros((3, 2), np.float32))


class Told(VectorEnv):
    """Remembers what it was reset with."""

    def __init__(self):
        self.num_envs = 2
        self.single_observation_space = Counts().observation_space
        self.single_action_space = Counts().action_space
        self.observation_space = batch_space(self.single_observation_space, 2)
        self.action_space = batch_space(self.single_action_space, 2)
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.calls = []

    def reset(self, *, seed=None, options=None):
        self.calls.append((seed, options))
        return np.zeros((2, 3), np.float32), {}


def test_seed_and_options_are_used_once():
    env = GymnasiumVecEnv(Told())
    env.seed(5)
    env.set_options({"level": 3})
    env.reset()
    env.reset()
    assert env.env.calls == [(5, {"level": 3}), (None, None)]


@pytest.mark.parametrize("mode", MODES, ids=[mode.name for mode in MODES])
def test_an_agent_learns_on_real_environments_through_it(mode):
    env = VecMonitor(GymnasiumVecEnv(counting(mode)))
    agent = A2C("MlpPolicy", env, n_steps=8, device="cpu", seed=0).learn(96)
    assert {info["l"] for info in agent.ep_info_buffer} == {LENGTH, LENGTH + 1, LENGTH + 2}


def trained_on(spec, action, view="decoded"):
    env = DreamVecEnv(ToyWorldModel(spec, action), 2, horizon=4, view=view)
    options = {"policy_kwargs": {"features_extractor_class": Flat}} if len(spec.keys()) > 1 else {}
    kind = "MultiInputPolicy" if options else ("CnnPolicy" if "pixels" in spec.keys() else "MlpPolicy")
    return PPO(kind, env, n_steps=4, batch_size=4, device="cpu", seed=0, **options)


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
@pytest.mark.parametrize("spec", [VECTOR, MIXED, IMAGE], ids=["vector", "dict", "image"])
@pytest.mark.parametrize("action", [OneHot(3), Bounded(-1, 1, (2,))], ids=["one-hot", "continuous"])
def test_an_agent_is_a_policy_at_any_batch(spec, action, batch):
    agent = trained_on(spec, action)
    policy = SB3Policy(agent, spec, action, deterministic=True)
    torch.manual_seed(0)
    td = (spec.expand(*batch) if batch else spec).rand()
    assert policy(td) is td and action.expand(*batch, *action.shape).is_in(td["action"])
    if batch == (4,):
        rows = [policy(td[i].exclude("action"))["action"] for i in range(4)]
        torch.testing.assert_close(td["action"], torch.stack(rows))


def test_an_agent_of_other_spaces_is_refused():
    agent = trained_on(VECTOR, OneHot(3))
    for spec, action, words in (
        (Composite(observation=Unbounded(4)), OneHot(3), "observes"),
        (MIXED, OneHot(3), "observes"),
        (VECTOR, OneHot(4), "acts"),
        (VECTOR, Bounded(-1, 1, (2,)), "acts"),
    ):
        with pytest.raises(SpaceError, match=words):
            SB3Policy(agent, spec, action)


def test_an_agents_networks_stay_in_the_mode_that_they_are_in():
    agent = trained_on(VECTOR, OneHot(3))
    agent.policy.train()
    policy, td = SB3Policy(agent, VECTOR, OneHot(3)), VECTOR.expand(2).rand()
    policy(td)
    assert agent.policy.training and agent.policy.mlp_extractor.training
    agent.policy.eval()
    policy(td)
    assert not agent.policy.training


def test_an_agent_sees_what_it_was_trained_on_where_that_was_normalised():
    dream = VecNormalize(DreamVecEnv(ToyWorldModel(VECTOR, Bounded(-1, 1, (2,))), 2, horizon=4))
    agent = PPO("MlpPolicy", dream, n_steps=8, batch_size=8, device="cpu", seed=0).learn(32)
    td = TensorDict(observation=torch.full((1, 3), 0.7), batch_size=[1])
    acted = SB3Policy(agent, VECTOR, Bounded(-1, 1, (2,)), deterministic=True)(td)["action"][0]
    seen = dream.normalize_obs(np.full((1, 3), 0.7, np.float32))
    np.testing.assert_array_equal(acted, agent.predict(seen, deterministic=True)[0][0])
    assert not np.array_equal(acted, agent.predict(td["observation"].numpy(), deterministic=True)[0][0])


def test_an_agent_with_a_memory_is_no_policy_of_single_steps():
    agent = RecurrentPPO("MlpLstmPolicy", DreamVecEnv(ToyWorldModel(VECTOR, OneHot(3)), 2), n_steps=4, device="cpu")
    with pytest.raises(TypeError, match="memory"):
        SB3Policy(agent, VECTOR, OneHot(3))(VECTOR.expand(2).rand())


def test_an_agent_of_latents_acts_on_latents():
    agent = trained_on(VECTOR, OneHot(3), view="latent")
    policy = SB3Policy(agent, Composite(latent=Unbounded(16)), OneHot(3))
    assert policy.in_keys == ["latent"]
    assert policy(TensorDict({"latent": torch.zeros(5, 16)}, batch_size=[5]))["action"].sum() == 5
