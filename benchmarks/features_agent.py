"""An agent that learned to reach goals in the dreams of a JEPA alone, in the real two rooms.

``python -m benchmarks.features_agent`` wants the worlds of ``python -m benchmarks.features``; what it finds is kept in
``runs/features``, and the page of both is written by ``python -m benchmarks.features --table``. One thread of a CPU.
"""

import argparse
import json
import time
from typing import Any

import torch
from torchrl.data import TensorDictReplayBuffer

from benchmarks.features import ENV, RUNS, fitted, played
from benchmarks.features_worlds import REPEAT, WORLDS, World
from wmcomponents.data import collect, make_env, make_replay
from wmcomponents.dream import GoalReward, GoalWorldModel, ReplayStarts
from wmcomponents.dream.experience import Experience
from wmcomponents.integrations.sb3_agent import SB3Agent
from wmcomponents.training import seed_everything

GOAL_STEPS, WALK = 40_000, 5
"""Real steps that tell the dreams where to begin and what to reach, and steps of each walk."""

ROUNDS, LOOK_EVERY, ROUND, DREAMS, HORIZON = 360, 90, 8_192, 128, 64
PPO: dict[str, Any] = {
    "n_epochs": 5, "batch_size": 1024, "learning_rate": 5e-4, "gamma": 0.97, "ent_coef": 0.004, "gae_lambda": 0.95,
    "policy_kwargs": {"net_arch": [256, 256], "activation_fn": torch.nn.ReLU},
}  # fmt: skip


def starts_and_goals(seed: int, world: World) -> TensorDictReplayBuffer:
    """Short walks, each in its own rooms, with the pictures of their goals; no reward of theirs is read."""
    kinds = {"goal": True, "door_width": world.door}
    options: Any = {"env_kwargs": kinds, "image_size": world.image_size, "num_envs": 16}
    env = make_env(ENV, max_episode_steps=WALK, seed=seed, **options)
    replay = make_replay(GOAL_STEPS, env, sequence_length=2, batch_size=256, seed=seed, print_fn=None)
    collect(env, replay, GOAL_STEPS, seed=seed, action_repeat_prob=REPEAT)
    return replay


def run(world: str, seed: int, rounds: int) -> dict[str, Any]:
    """PPO in the dreams of a fitted world, looked at in reality."""
    model, kind = fitted(world, seed)[0], WORLDS[world]
    replay = starts_and_goals(seed + 100, kind)
    cpu, wall = time.process_time(), time.perf_counter()
    goals = GoalWorldModel(model, GoalReward(model))
    seed_everything(seed)
    agent = SB3Agent("ppo", goals, view="latent", dreams=DREAMS, horizon=HORIZON, round_steps=ROUND, seed=seed, **PPO)
    starts = ReplayStarts(goals, replay.sample, pool_size=16_384, seed=seed)
    experience = Experience(goals, replay.sample, starts=starts, seed=seed)
    curve = []
    for done in range(1, rounds + 1):
        numbers = agent.learn(experience)
        if done % LOOK_EVERY == 0:
            found = played(agent.real_policy, seed, kind.image_size, kind.door)
            curve.append({"dreamed_steps": agent.dreamed_steps, **found})
            print(agent.dreamed_steps, f"{time.process_time() - cpu:.0f} s", found["rate"], numbers, flush=True)
    took = {"cpu_seconds": time.process_time() - cpu, "seconds": time.perf_counter() - wall}
    return {"world": world, "seed": seed, "agent": "PPO", "curve": curve, **took}


def main() -> None:
    """Learn and look."""
    parser = argparse.ArgumentParser(description="an agent of a JEPA's dreams in two rooms")
    parser.add_argument("--world", default="jepa-long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    file = RUNS / f"agent-{given.world}-{given.seed}.json"
    if not file.is_file():
        file.write_text(json.dumps(run(given.world, given.seed, given.rounds)) + "\n")
    print(file.read_text())


if __name__ == "__main__":
    main()
