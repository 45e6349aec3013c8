"""Agents of other libraries, unmodified, trained in dreams of every kind; and what they log of the episodes."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from sb3_contrib import QRDQN, TQC, MaskablePPO, RecurrentPPO
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecMonitor
from torch import nn
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from wmcomponents.integrations.gymnasium import DreamVectorEnv, EpisodeStatistics
from wmcomponents.integrations.sb3 import DreamVecEnv, GymnasiumVecEnv
from wmcomponents.testing.toy import ToyWorldModel

pytestmark = pytest.mark.slow

PIXELS = Bounded(0, 255, (36, 36, 3), dtype=torch.uint8)
DREAMS = {
    "discrete": (Composite(observation=Bounded(-1, 1, (4,))), OneHot(3)),
    "continuous": (Composite(observation=Unbounded(3)), Bounded(-2, 2, (2,))),
    "image": (Composite(pixels=PIXELS), OneHot(3)),
    "dict": (Composite(camera=PIXELS, position=Unbounded(3)), OneHot(3)),
}
HORIZON, PAY = 6, 0.5
"""A step pays one half, so that a return is told by its length, which the model's own ends decide."""


def pays(state, action, after):
    return torch.full((len(action), 1), PAY)


def check_episodes(returns, lengths):
    assert len(lengths) > 4 and max(lengths) == HORIZON and min(lengths) < HORIZON
    np.testing.assert_allclose(returns, PAY * np.array(lengths))


class Masked(DreamVecEnv):
    """Row i may not take action i mod 3."""

    def action_masks(self):
        masks = np.ones((self.num_envs, 3), bool)
        masks[np.arange(self.num_envs), np.arange(self.num_envs) % 3] = False
        return masks

    def step_async(self, actions):
        assert (np.asarray(actions) != np.arange(self.num_envs) % 3).all()
        super().step_async(actions)


def sb3_dream(kind, rows=4, adapter=DreamVecEnv):
    model = ToyWorldModel(*DREAMS[kind])
    options = {"horizon": HORIZON, "reward": pays}
    if adapter is not GymnasiumVecEnv:
        return VecMonitor(adapter(model, rows, **options))
    vector = DreamVectorEnv(model, rows, autoreset_mode=AutoresetMode.SAME_STEP, **options)
    return GymnasiumVecEnv(EpisodeStatistics(vector))


ON_POLICY = {"n_steps": 16, "batch_size": 32, "n_epochs": 1}
OFF_POLICY = {"learning_starts": 32, "buffer_size": 400, "batch_size": 16}
CASES = [
    (PPO, "discrete", DreamVecEnv),
    (PPO, "continuous", DreamVecEnv),
    (PPO, "image", DreamVecEnv),
    (PPO, "dict", DreamVecEnv),
    (PPO, "dict", GymnasiumVecEnv),
    (SAC, "continuous", DreamVecEnv),
    (DQN, "discrete", DreamVecEnv),
    (DQN, "image", GymnasiumVecEnv),
    (MaskablePPO, "discrete", Masked),
    (MaskablePPO, "dict", Masked),
    (RecurrentPPO, "continuous", DreamVecEnv),
    (RecurrentPPO, "image", DreamVecEnv),
    (TQC, "continuous", GymnasiumVecEnv),
    (QRDQN, "discrete", DreamVecEnv),
    (QRDQN, "dict", DreamVecEnv),
]


@pytest.mark.parametrize(
    ("algorithm", "kind", "adapter"), CASES, ids=[f"{a.__name__}-{kind}-{e.__name__}" for a, kind, e in CASES]
)
def test_agents_of_sb3_and_its_contrib_train_and_log_right_returns(algorithm, kind, adapter):
    policy = {"image": "Cnn", "dict": "MultiInput"}.get(kind, "Mlp") + ("Lstm" if algorithm is RecurrentPPO else "")
    options = dict(ON_POLICY if "PPO" in algorithm.__name__ else OFF_POLICY)
    if kind in ("image", "dict") and algorithm is not RecurrentPPO:
        options["policy_kwargs"] = {"net_arch": [16]}
    agent = algorithm(f"{policy}Policy", sb3_dream(kind, adapter=adapter), device="cpu", seed=0, **options)
    before = [parameter.clone() for parameter in agent.policy.parameters()]
    agent.learn(192)
    assert any(not torch.equal(old, new) for old, new in zip(before, agent.policy.parameters(), strict=True))
    check_episodes([told["r"] for told in agent.ep_info_buffer], [told["l"] for told in agent.ep_info_buffer])


def test_a_monitored_environment_trains_alike_in_every_autoreset_mode():
    """The agent sees one and the same experience, and SB3 finds the monitors of the rows."""
    told = []
    for mode in AutoresetMode:
        rows = SyncVectorEnv([lambda: Monitor(gymnasium.make("CartPole-v1"))] * 3, autoreset_mode=mode)
        env = GymnasiumVecEnv(rows)
        agent = PPO("MlpPolicy", env, device="cpu", seed=0, **ON_POLICY | {"n_steps": 32}).learn(192)
        episodes = [(episode["r"], episode["l"]) for episode in agent.ep_info_buffer]
        told.append((episodes, evaluate_policy(agent, env, 4, return_episode_rewards=True)))
    assert told[0] == told[1] == told[2]
    episodes, (returns, lengths) = told[0]
    assert len(episodes) > 3 and all(
        total == length for total, length in [*episodes, *zip(returns, lengths, strict=True)]
    )


@pytest.fixture
def skrl():
    """The library, whose import changes the defaults of all distributions."""
    checked = torch.distributions.Distribution._validate_args
    module = pytest.importorskip("skrl")
    yield module
    torch.distributions.Distribution.set_default_validate_args(checked)


def skrl_models(env, names, mixins):
    """A small network for each role, on skrl's own base classes."""
    from skrl.models.torch import Model
    from skrl.utils.spaces.torch import unflatten_tensorized_space

    def network(mixin, outputs, **options):
        class Network(mixin, Model):
            def __init__(self):
                Model.__init__(
                    self, observation_space=env.observation_space, action_space=env.action_space, device="cpu"
                )
                mixin.__init__(self, **options)
                self.spread = nn.Parameter(torch.zeros(outputs))
                self.net = nn.Sequential(nn.LazyLinear(16), nn.ELU(), nn.Linear(16, outputs))

            def compute(self, inputs, role=""):
                seen = unflatten_tensorized_space(env.observation_space, inputs["observations"])
                parts = seen.values() if isinstance(seen, dict) else [seen]
                numbers = torch.cat([part.flatten(1).float() / (1 + part.max().abs()) for part in parts], 1)
                out = self.net(numbers)
                gaussian = mixin.__name__ == "GaussianMixin"
                return out, {"log_std": self.spread} if gaussian else {}

        made = Network()
        with torch.no_grad():
            made.compute({"observations": torch.zeros(1, gymnasium.spaces.flatdim(env.observation_space))})
        return made

    discrete = isinstance(env.action_space, gymnasium.spaces.Discrete)
    actions = int(env.action_space.n) if discrete else env.action_space.shape[0]
    return {name: network(mixins[name], 1 if name == "value" else actions) for name in names}


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [("PPO", "discrete"), ("PPO", "continuous"), ("PPO", "image"), ("PPO", "dict"), ("DQN", "discrete")],
)
def test_agents_of_skrl_train_and_track_right_rewards(skrl, algorithm, kind, tmp_path):
    from skrl.envs.wrappers.torch import wrap_env
    from skrl.memories.torch import RandomMemory
    from skrl.models.torch import CategoricalMixin, DeterministicMixin, GaussianMixin
    from skrl.trainers.torch import SequentialTrainer

    dream = DreamVectorEnv(
        ToyWorldModel(*DREAMS[kind]),
        4,
        horizon=HORIZON,
        reward=pays,
        autoreset_mode=AutoresetMode.SAME_STEP,
        render_mode="rgb_array",
    )
    env = wrap_env(dream, wrapper="gymnasium", verbose=False)
    steps = 48
    experiment = {"directory": str(tmp_path), "write_interval": 10 * steps, "checkpoint_interval": 0}
    if algorithm == "PPO":
        from skrl.agents.torch.ppo import PPO as Agent

        policy = GaussianMixin if kind == "continuous" else CategoricalMixin
        models = skrl_models(env, ["policy", "value"], {"policy": policy, "value": DeterministicMixin})
        config, memory = {"rollouts": 16, "learning_epochs": 1, "experiment": experiment}, 16
    else:
        from skrl.agents.torch.dqn import DQN as Agent

        mixins = dict.fromkeys(("q_network", "target_q_network"), DeterministicMixin)
        models = skrl_models(env, list(mixins), mixins)
        config, memory = {"batch_size": 16, "learning_starts": 16, "experiment": experiment}, 100
    agent = Agent(
        models=models,
        memory=RandomMemory(memory_size=memory, num_envs=4, device="cpu"),
        cfg=config,
        observation_space=env.observation_space,
        action_space=env.action_space,
        device="cpu",
    )
    before = [parameter.clone() for model in models.values() for parameter in model.parameters()]
    trainer_config = {
        "timesteps": steps,
        "headless": False,  # it renders
        "render_interval": 16,
        "disable_progressbar": True,
        "close_environment_at_exit": False,
    }
    SequentialTrainer(cfg=trainer_config, env=env, agents=agent).train()
    after = [parameter for model in models.values() for parameter in model.parameters()]
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
    agent.writer.close()
    check_episodes([total for (total,) in agent._track_rewards], [length for (length,) in agent._track_timesteps])
