"""MBPO on Pendulum: recorded steps in, a policy out (Janner et al., When to Trust Your Model, 2019).

An ensemble of probabilistic networks learns from random steps of the real environment. SAC, unmodified, learns in short
dreams that begin in states of the data; each step is predicted by another member. Nothing more is asked of reality but
the score at the end.
"""

import gymnasium
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from wmcomponents.data import action_spec, collect, make_env, make_replay, observation_spec
from wmcomponents.dream import PoolStarts
from wmcomponents.integrations.sb3 import DreamVecEnv
from wmcomponents.models import ProbabilisticEnsemble
from wmcomponents.training import Trainer


def main(
    real_steps: int = 5_000, model_updates: int = 1_500, dreamed_steps: int = 160_000, episodes: int = 20
) -> float:
    torch.manual_seed(0)
    env = make_env("Pendulum-v1", seed=0)
    replay = make_replay(real_steps, env, sequence_length=8, batch_size=32, seed=0, print_fn=None)
    collect(env, replay, real_steps, seed=0)

    model = ProbabilisticEnsemble("tiny", observation_spec(env), action_spec(env))
    Trainer(model, replay, progress=False).train(model_updates)

    seen = replay[:]["observation"]
    starts = PoolStarts({"numbers": seen, "member": torch.full((len(seen), 1), -1)})
    dream = DreamVecEnv(model, num_envs=32, starts=starts, horizon=5, termination="off", seed=0)
    agent = SAC(
        "MlpPolicy", dream, gradient_steps=1, learning_starts=1_000, batch_size=256, learning_rate=1e-3, gamma=0.98,
        policy_kwargs={"net_arch": [64, 64]}, seed=0,
    )  # fmt: skip
    agent.learn(dreamed_steps)

    score, spread = evaluate_policy(agent, Monitor(gymnasium.make("Pendulum-v1")), n_eval_episodes=episodes)
    print(f"real steps: {real_steps}; dreamt steps: {agent.num_timesteps}; real return: {score:.0f} +- {spread:.0f}")
    return float(score)


if __name__ == "__main__":
    main()
