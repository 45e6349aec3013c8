"""PPO of Stable-Baselines3: on the real environment, in a dream with its own buffer, and in a dream in tensors.

``python -m benchmarks.sb3_rollouts`` writes ``docs/benchmarks/sb3_rollouts.json`` and ``.md``: samples a second of
collecting and learning together, medians of interleaved repeats in one run, one thread.
"""

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from benchmarks.real import RealGym
from wmcomponents.data import make_env
from wmcomponents.integrations.sb3 import DreamVecEnv
from wmcomponents.integrations.sb3_torch_buffer import TorchPPO
from wmcomponents.models import DreamerV3

OUT = Path("docs/benchmarks")
STEPS = 128
"""Of each row between two updates, as in SB3's settings for vectors of environments; 4 epochs of 4 batches."""


def runs(env_id: str, rows: int, view: Any) -> dict[str, Callable[[], int]]:
    """What is measured: each call collects and learns from ``rows * STEPS`` samples."""
    torch.manual_seed(0)
    model = DreamerV3("tiny", make_env(env_id))

    def learner(kind: type[PPO], env: Any) -> Callable[[], int]:
        policy = "CnnPolicy" if len(env.observation_space.shape) == 3 else "MlpPolicy"
        agent = kind(policy, env, n_steps=STEPS, batch_size=rows * STEPS // 4, n_epochs=4, device="cpu", seed=0)

        def call() -> int:
            agent.learn(rows * STEPS, reset_num_timesteps=False)
            return rows * STEPS

        return call

    def dream() -> DreamVecEnv:
        return DreamVecEnv(model, num_envs=rows, horizon=200, view=view, seed=0)

    is_image = any(len(leaf.shape) == 3 for leaf in model.observation_spec.values())
    real = make_vec_env((lambda: RealGym(make_env(env_id))) if is_image else env_id, n_envs=rows, seed=0)
    return {
        "reality": learner(PPO, real),
        "dream, stock": learner(PPO, dream()),
        "dream, tensors": learner(TorchPPO, dream()),
    }


def measure(env_id: str, rows: int, view: Any, repeats: int) -> dict[str, Any]:
    """One row of the table: samples a second of each."""
    cells = runs(env_id, rows, view)
    seconds: dict[str, list[float]] = {name: [] for name in cells}
    for call in cells.values():
        call()  # the first makes buffers
    for _ in range(repeats):
        for name, call in cells.items():
            begun = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - begun)
    rates = {name: rows * STEPS / statistics.median(values) for name, values in seconds.items()}
    return {"env": env_id, "rows": rows, "view": view, "repeats": repeats, "samples_per_second": rates}


def page(facts: dict[str, Any]) -> str:
    """The table."""
    lines = [
        "# PPO in a dream, in arrays and in tensors",
        "",
        "Samples a second of Stable-Baselines3's PPO, collecting and learning together: on the real environment, in",
        "the dream of a tiny DreamerV3 with SB3's own buffer, and there with `TorchPPO`, whose samples stay tensors.",
        "What it learns is the same. Policies read vectors, or frames of 64x64 by SB3's CNN: in reality, and in the",
        "decoded view; the latent view is a vector. A dreamt step costs what the model costs, whatever it dreams of.",
        "",
        "| environment | rows | view | reality | dream, stock | dream, tensors | tensors / stock |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in facts["measured"]:
        rates = row["samples_per_second"]
        real = f"{rates['reality']:,.0f}"
        ratio = rates["dream, tensors"] / rates["dream, stock"]
        lines.append(
            f"| {row['env']} | {row['rows']} | {row['view']} | {real} | {rates['dream, stock']:,.0f} | "
            f"{rates['dream, tensors']:,.0f} | {ratio:.2f} |"
        )
    lines += ["", f"`{facts['command']}`, torch {facts['torch']}, one thread, medians of interleaved repeats.", ""]
    return "\n".join(lines)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="PPO in a dream, in arrays and in tensors")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=UserWarning)
    gymnasium.logger.min_level = gymnasium.logger.ERROR
    plan = [("CartPole-v1", 16, "decoded"), ("CartPole-v1", 16, "latent"), ("CartPole-v1", 64, "latent")]
    measured = [measure(*one, given.repeats) for one in plan]
    measured += [measure("ALE/Pong-v5", 4, view, 2) for view in ("decoded", "latent")]
    for row in measured:
        print(row)
    facts = {"command": "python -m benchmarks.sb3_rollouts", "torch": torch.__version__, "measured": measured}
    (OUT / "sb3_rollouts.json").write_text(json.dumps(facts, indent=1) + "\n")
    (OUT / "sb3_rollouts.md").write_text(page(facts))


if __name__ == "__main__":
    main()
