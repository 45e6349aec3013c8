"""From a real environment to an agent that learned in its dream, on every kind of environment the library supports."""

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from stable_baselines3 import PPO, SAC
from torchrl.data import Composite, Unbounded
from torchrl.envs.utils import check_env_specs

from wmcomponents.data import action_spec, collect, make_env, make_replay, observation_spec
from wmcomponents.dream import ReplayStarts
from wmcomponents.integrations.gymnasium import DreamEnv, DreamVectorEnv
from wmcomponents.integrations.sb3 import DreamVecEnv, SB3Policy
from wmcomponents.integrations.torchrl import LatentPolicy, TorchRLDreamEnv, TorchRLStatelessDreamEnv
from wmcomponents.models import DreamerV3, DreamerV3Config
from wmcomponents.training import Trainer

STEPS, UPDATES, LENGTH = 200, 50, 8
ENVIRONMENTS = {
    "CartPole-v1": {},
    "Pendulum-v1": {},
    "MinAtar/Breakout-v1": {},
    "ALE/Pong-v5": {},
    "dm_control/cartpole-swingup": {},
    "dm_control/cartpole-swingup pixels": {"from_pixels": True},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_collect_fit_dream_learn_and_return_to_reality(name, tmp_path):
    env_id, _, _ = name.partition(" ")
    if env_id.startswith("dm_control"):
        pytest.importorskip("dm_control")
    options = ENVIRONMENTS[name]
    env = make_env(env_id, seed=0, **options)
    replay = make_replay(STEPS, env, sequence_length=LENGTH, batch_size=4, seed=0, print_fn=None)
    assert collect(env, replay, STEPS, seed=0).frames == STEPS
    spec, actions = observation_spec(env), action_spec(env)
    model = DreamerV3(DreamerV3Config.tiny(depth=2, deter=64, blocks=4), spec, actions)
    trainer = Trainer(model, replay, lr=1e-3, warmup=10, progress=False)
    trainer.train(1)
    held = replay.sample()
    before = trainer.objective(held)["loss_reconstruction"]
    trainer.train(UPDATES)
    assert trainer.objective(held)["loss_reconstruction"] < 0.9 * before

    starts = ReplayStarts(model, replay.sample, pool_size=64)
    model.save_pretrained(tmp_path / "model", starts=starts.pool)
    dream_in_every_adapter(tmp_path / "model", starts, spec)

    dream = DreamVecEnv(model, 4, starts=starts, horizon=16, view="latent")
    continuous = not hasattr(actions.space, "n")
    if continuous:
        agent = SAC("MlpPolicy", dream, learning_starts=32, train_freq=8, batch_size=32, device="cpu").learn(256)
    else:
        agent = PPO("MlpPolicy", dream, n_steps=32, batch_size=64, device="cpu").learn(256)
    latents = Composite(latent=Unbounded(agent.observation_space.shape))
    policy = LatentPolicy(model, SB3Policy(agent, latents, actions))
    env.append_transform(policy.make_tensordict_primer())
    rollout = env.rollout(20, policy, break_when_any_done=False)
    assert rollout.shape == (20,)
    assert rollout["latent"].isfinite().all() and actions.expand(20, *actions.shape).is_in(rollout["action"])
    env.close()


def dream_in_every_adapter(path, starts, spec):
    """The saved model through all four kinds of environment, in the space that the real environment shows."""
    single = DreamEnv(path, horizon=5)
    observation, _ = single.reset(seed=0)
    assert single.observation_space.contains(observation)
    for _ in range(5):
        observation, reward, terminated, truncated, _ = single.step(single.action_space.sample())
        assert single.observation_space.contains(observation) and np.isfinite(reward)
        if terminated or truncated:
            break
    assert terminated or truncated

    vector = DreamVectorEnv(path, 3, horizon=5, autoreset_mode=AutoresetMode.SAME_STEP)
    vector.reset(seed=0)
    for _ in range(8):
        observation, _, _, _, _ = vector.step(vector.action_space.sample())
        assert vector.observation_space.contains(observation)

    rows = DreamVecEnv(path, 3, horizon=5)
    rows.reset()
    for _ in range(8):
        _, rewards, dones, infos = rows.step(np.stack([rows.action_space.sample() for _ in range(3)]))
        assert rewards.shape == dones.shape == (3,)
        assert all(("terminal_observation" in info) == done for info, done in zip(infos, dones, strict=True))

    stateful = TorchRLDreamEnv(path, [3], horizon=5)
    check_env_specs(stateful, seed=0)
    assert stateful.rollout(8, break_when_any_done=False).shape == (3, 8)
    stateless = TorchRLStatelessDreamEnv(path, horizon=5)
    check_env_specs(stateless, seed=0)
    assert set(spec.keys()) <= set(TorchRLStatelessDreamEnv(path, view="decoded").rollout(3).keys())
