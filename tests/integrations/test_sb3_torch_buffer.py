"""SB3's on-policy algorithms in tensors, held against the stock ones."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import TRPO, MaskablePPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize
from torchrl.data import Bounded, Composite, MultiOneHot, OneHot, Unbounded

from tests.support.flat_extractor import Flat
from tests.support.models import IMAGE, MIXED, VECTOR, PointMass
from wmcomponents.dream.checks import NotFiniteError
from wmcomponents.integrations.sb3 import DreamVecEnv
from wmcomponents.integrations.sb3_torch_buffer import TorchA2C, TorchPPO, TorchRolloutBuffer, on_device
from wmcomponents.testing.toy import ToyWorldModel

BOX = Bounded(-torch.tensor([1.0, 2.0]), torch.tensor([1.0, 0.5]))


def learnt(algorithm, model, policy="MlpPolicy", monitor=False, rounds=2, **options):
    dream = DreamVecEnv(model, 5, horizon=4, view=options.pop("view", "decoded"))
    env = VecMonitor(dream) if monitor else dream
    small = {"net_arch": [16]} | options.pop("policy_kwargs", {})
    agent = algorithm(policy, env, n_steps=6, seed=3, device="cpu", policy_kwargs=small, **options)
    return agent.learn(rounds * 30)


def toy():
    return ToyWorldModel(VECTOR, OneHot(2))


def same(one, other, atol=1e-6):
    ours, theirs = one.policy.state_dict(), other.policy.state_dict()
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value, rtol=1e-4, atol=atol)


@pytest.mark.parametrize("view", ["decoded", "both"])
@pytest.mark.parametrize(
    "action", [OneHot(3), BOX, MultiOneHot([2, 3])], ids=["one choice", "numbers", "several choices"]
)
def test_it_learns_what_the_stock_algorithm_learns(action, view):
    model = ToyWorldModel(VECTOR, action)
    policy = "MlpPolicy" if view == "decoded" else "MultiInputPolicy"
    stock = learnt(PPO, model, policy, view=view, monitor=True, batch_size=10, n_epochs=2)
    ours = learnt(TorchPPO, model, policy, view=view, batch_size=10, n_epochs=2)
    same(ours, stock)
    assert ours.num_timesteps == stock.num_timesteps == 60
    # The same episodes, counted without VecMonitor.
    told = [[(e["r"], e["l"]) for e in agent.ep_info_buffer] for agent in (ours, stock)]
    np.testing.assert_allclose(*told, rtol=1e-5)
    assert told[0]


@pytest.mark.parametrize(("stock", "options"), [(A2C, {}), (TRPO, {"batch_size": 15})], ids=["A2C", "TRPO"])
def test_so_do_the_other_on_policy_algorithms(stock, options):
    model = ToyWorldModel(VECTOR, OneHot(2))
    same(learnt(on_device(stock), model, **options), learnt(stock, model, **options))
    assert on_device(A2C) is TorchA2C


@pytest.mark.parametrize("space", [IMAGE, MIXED], ids=["image", "dict"])
def test_images_reach_the_policy_as_through_sb3s_wrapper(space):
    model = ToyWorldModel(space, OneHot(2))
    policy = "MlpPolicy" if space is IMAGE else "MultiInputPolicy"
    extractor = FlattenExtractor if space is IMAGE else Flat
    kwargs = {"policy_kwargs": {"features_extractor_class": extractor}, "batch_size": 15, "n_epochs": 1, "rounds": 1}
    same(learnt(TorchPPO, model, policy, **kwargs), learnt(PPO, model, policy, **kwargs))


def test_noise_that_depends_on_the_state_is_squashed_and_unscaled_alike():
    kwargs = {"use_sde": True, "sde_sample_freq": 3, "batch_size": 15, "n_epochs": 1}
    kwargs["policy_kwargs"] = {"squash_output": True}
    model = ToyWorldModel(VECTOR, BOX)
    same(learnt(TorchPPO, model, **kwargs), learnt(PPO, model, **kwargs))


@pytest.mark.parametrize("as_dict", [False, True], ids=["plain", "dict"])
def test_advantages_and_batches_are_the_stock_buffers_to_the_bit(as_dict):
    rng = np.random.default_rng(0)
    plain = spaces.Box(-1.0, 1.0, (3,), np.float32)
    seen, acted = spaces.Dict(a=plain, b=spaces.Box(0, 255, (2, 2, 1), np.uint8)) if as_dict else plain, plain
    stock = (DictRolloutBuffer if as_dict else RolloutBuffer)(7, seen, acted, "cpu", 0.9, 0.97, 4)
    ours = TorchRolloutBuffer(7, seen, acted, "cpu", 0.9, 0.97, 4)
    for _ in range(7):
        shown = rng.uniform(-1, 1, (4, 3)).astype(np.float32)
        pixels = rng.integers(0, 255, (4, 2, 2, 1)).astype(np.uint8)
        numbers = torch.from_numpy(rng.normal(size=(2, 4, 1)).astype(np.float32))
        step = [{"a": shown, "b": pixels} if as_dict else shown, shown * 0.5, rng.normal(size=4).astype(np.float32)]
        step += [rng.uniform(size=4) < 0.3, numbers[0], numbers[1, :, 0]]
        for buffer in (stock, ours):
            buffer.add(*step)
    for buffer in (stock, ours):
        buffer.compute_returns_and_advantage(torch.arange(4.0)[:, None], np.array([True, False, False, True]))
    np.testing.assert_array_equal(ours.advantages, stock.advantages)
    np.testing.assert_array_equal(ours.returns, stock.returns)
    batches = []
    for buffer in (stock, ours):
        np.random.seed(1)
        batches.append([*buffer.get(10), *buffer.get(None)])
    for one, other in zip(*batches, strict=True):
        torch.testing.assert_close(tuple(one), tuple(other), rtol=0, atol=0)


def test_the_stock_algorithm_takes_the_buffer_too():
    model = ToyWorldModel(VECTOR, OneHot(2))
    same(
        learnt(PPO, model, rollout_buffer_class=TorchRolloutBuffer, batch_size=15), learnt(PPO, model, batch_size=15), 0
    )


def test_a_cut_is_worth_what_follows_and_an_end_nothing():
    agent = learnt(TorchPPO, PointMass(), batch_size=15, rounds=1)
    buffer = agent.rollout_buffer
    stock = learnt(PPO, PointMass(), batch_size=15, rounds=1).rollout_buffer
    np.testing.assert_allclose(buffer.rewards, stock.swap_and_flatten(stock.rewards)[:, 0], rtol=1e-5, atol=1e-6)


def test_files_are_those_of_the_stock_algorithm(tmp_path):
    model = ToyWorldModel(VECTOR, OneHot(2))
    agent = learnt(TorchPPO, model, batch_size=15)
    agent.save(tmp_path / "agent.zip")
    same(PPO.load(tmp_path / "agent.zip", device="cpu"), agent, 0)
    env = DreamVecEnv(model, 5, horizon=4)
    going_on = TorchPPO.load(tmp_path / "agent.zip", env=env, device="cpu")
    going_on.learn(30, reset_num_timesteps=False)
    assert going_on.num_timesteps == 90
    learnt(PPO, model, batch_size=15).save(tmp_path / "stock.zip")
    assert isinstance(TorchPPO.load(tmp_path / "stock.zip", env=env, device="cpu").rollout_buffer, TorchRolloutBuffer)


class Stops(BaseCallback):
    def _on_step(self):
        return self.n_calls < 4


def test_a_callback_stops_it_and_sees_tensors():
    callback = Stops()
    agent = TorchPPO("MlpPolicy", DreamVecEnv(toy(), 2, horizon=4), n_steps=8, batch_size=16, device="cpu")
    agent.learn(16, callback=callback)
    assert agent.num_timesteps == 8
    assert isinstance(callback.locals["rewards"], torch.Tensor)


@pytest.mark.parametrize("wrapper", [VecNormalize, VecMonitor])
def test_wrappers_that_work_on_arrays_are_refused_in_words(wrapper):
    with pytest.raises(TypeError, match="without wrappers.*VecMonitor can be left out.*SB3's own"):
        TorchPPO("MlpPolicy", wrapper(DreamVecEnv(toy(), 2, horizon=4)), device="cpu")
    agent = TorchPPO("MlpPolicy", DreamVecEnv(toy(), 2, horizon=4), n_steps=8, batch_size=16, device="cpu")
    with pytest.raises(TypeError, match="without wrappers"):
        agent.set_env(wrapper(DreamVecEnv(toy(), 2, horizon=4)))


class Slower(DreamVecEnv):
    def step_wait(self):
        return super().step_wait()


def test_what_it_would_pass_by_is_refused():
    with pytest.raises(TypeError, match="own reset"):
        TorchPPO("MlpPolicy", Slower(toy(), 2, horizon=4), device="cpu")
    with pytest.raises(TypeError, match="TorchRolloutBuffer or a subclass"):
        env = DreamVecEnv(toy(), 2, horizon=4)
        TorchPPO("MlpPolicy", env, device="cpu", rollout_buffer_class=type("Own", (RolloutBuffer,), {}))
    with pytest.raises(TypeError, match="a way of its own"):
        on_device(MaskablePPO)


def test_nothing_is_learned_from_a_reward_that_is_not_finite():
    def reward(state, action, after):
        worth = torch.zeros(2, 1)
        worth[1] = float("nan")
        return worth

    dream = DreamVecEnv(toy(), 2, horizon=4, reward=reward)
    agent = TorchPPO("MlpPolicy", dream, n_steps=8, batch_size=16, device="cpu")
    before = {key: value.clone() for key, value in agent.policy.state_dict().items()}
    with pytest.raises(NotFiniteError, match="'reward' of step 0"):
        agent.learn(16)
    for key, value in agent.policy.state_dict().items():
        assert torch.equal(value, before[key])


def test_a_rollout_that_is_not_full_is_not_read():
    buffer = TorchRolloutBuffer(2, spaces.Discrete(3), spaces.Discrete(2), "cpu", n_envs=1)
    with pytest.raises(RuntimeError, match="0 of 2 steps"):
        next(buffer.get())


def test_observations_that_are_choices_are_numbers():
    model = ToyWorldModel(Composite(where=OneHot(4), speed=Unbounded(2)), OneHot(2))
    same(
        learnt(TorchPPO, model, "MultiInputPolicy", batch_size=15),
        learnt(PPO, model, "MultiInputPolicy", batch_size=15),
    )
