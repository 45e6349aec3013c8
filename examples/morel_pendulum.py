"""MOReL on Pendulum: recorded steps in, a cautious policy out (Kidambi et al., MOReL, 2020).

The dream ends, at a price, where the members of the ensemble disagree more than twice as much as ever on the data:
what was learned there is not to be believed. SAC, unmodified, learns in this pessimistic dream over whole episodes.
"""

import gymnasium
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from wmcomponents.data import action_spec, collect, make_env, make_replay, observation_spec
from wmcomponents.dream import Disagreement, Halt, PoolStarts, Uncertainty
from wmcomponents.functional import max_pairwise_distance
from wmcomponents.integrations.sb3 import DreamVecEnv
from wmcomponents.models import ProbabilisticEnsemble
from wmcomponents.training import Trainer

GAMMA = 0.98
WORST_REWARD = -16.3


def main(
    real_steps: int = 5_000, model_updates: int = 1_500, dreamed_steps: int = 160_000, episodes: int = 20
) -> float:
    torch.manual_seed(0)
    env = make_env("Pendulum-v1", seed=0)
    replay = make_replay(real_steps, env, sequence_length=8, batch_size=32, seed=0, print_fn=None)
    collect(env, replay, real_steps, seed=0)

    model = ProbabilisticEnsemble("tiny", observation_spec(env), action_spec(env))
    Trainer(model, replay, progress=False).train(model_updates)

    data = replay[:]
    states = {"numbers": data["observation"], "member": torch.full((len(data), 1), -1)}
    measure = Disagreement(max_pairwise_distance)
    with torch.no_grad():
        threshold = 2 * float(measure(model, states, data["action"]).max())
    # One reward stands for all that would follow in a state where every step costs the most.
    pessimism = Uncertainty(measure, halt=Halt(threshold, reward=WORST_REWARD / (1 - GAMMA)))

    dream = DreamVecEnv(
        model, num_envs=32, starts=PoolStarts(states), horizon=200, termination="off", uncertainty=pessimism, seed=0
    )
    agent = SAC(
        "MlpPolicy", dream, gradient_steps=1, learning_starts=1_000, batch_size=256, learning_rate=1e-3, gamma=GAMMA,
        policy_kwargs={"net_arch": [64, 64]}, seed=0,
    )  # fmt: skip
    agent.learn(dreamed_steps)

    score, spread = evaluate_policy(agent, Monitor(gymnasium.make("Pendulum-v1")), n_eval_episodes=episodes)
    print(
        f"real steps: {real_steps}; dreamt steps: {agent.num_timesteps}; dreams end above a disagreement of "
        f"{threshold:.3f}; real return: {score:.0f} +- {spread:.0f}"
    )
    return float(score)


if __name__ == "__main__":
    main()
