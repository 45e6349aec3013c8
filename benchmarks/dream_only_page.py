"""The page of agents trained only in the dreams of a game."""

import math
from typing import Any

import torch

from benchmarks.fitting import REAL_STEPS
from benchmarks.pixel_worlds import FAMILIES

EPISODES, GLANCE_EPISODES = 100, 25


def table(runs: list[dict[str, Any]]) -> str:
    """The page."""
    lines = [
        "# Agents trained only in dreams of a game",
        "",
        "What agents earn in the real MinAtar Breakout that never took a step outside a world model's dream. The",
        f"models are those of [Worlds of tokens and pixels](pixels.md), fitted to {REAL_STEPS:,} steps of random play,",
        "and stay as they are.",
        "",
        "| world | agent | seed | real steps | dreamed steps | real return, mean of "
        f"{EPISODES} episodes | standard error | on the way ({GLANCE_EPISODES} episodes) | agent's CPU (wall) |",
        "|---|---|---:|---:|---:|---:|---:|---|---:|",
    ]
    for one in runs:
        last, before = one["curve"][-1], one["curve"][:-1]
        spread = torch.tensor(last["returns"], dtype=torch.float64).std().item() / math.sqrt(len(last["returns"]))
        is_random = one["agent"] == "random"
        name = {"own": "its paper's actor-critic", "PPO": "PPO (Stable-Baselines3)", "random": "uniform actions"}
        cells = [
            "" if is_random else FAMILIES[one["family"]],
            name[one["agent"]],
            str(one["seed"]),
            f"{one['real_steps']:,}",
            f"{last['dreamed_steps']:,}",
            f"{last['mean']:.2f}" if is_random else f"**{last['mean']:.2f}**",
            f"{spread:.2f}",
            ", ".join(f"{point['mean']:.2f}" for point in before),
            "" if is_random else f"{one['cpu_seconds'] / 60:.1f} min ({one['seconds'] / 60:.1f})",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])
