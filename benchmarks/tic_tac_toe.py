"""MuZero plays itself at tic-tac-toe, and then perfect play.

``python -m benchmarks.tic_tac_toe`` goes on with the run in ``runs/agents/tic-tac-toe`` where it was, in one thread.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torchrl.envs import TransformedEnv

from wmcomponents.agents import MuZeroAgent
from wmcomponents.agents.search import SearchPolicy, unscaled_gumbel_search
from wmcomponents.data import make_env
from wmcomponents.data.board_games import BoardGameEnv, PerfectPlay, play_match, tic_tac_toe
from wmcomponents.world_model import LatentPolicy

RUNS = Path("runs/agents/tic-tac-toe")
GAMES, EVERY, SIMULATIONS = 100, 6_000, 48


def opened() -> TransformedEnv:
    """Self-play's games: up to four random moves first, so that it learns what it would not choose."""
    return make_env(BoardGameEnv(tic_tac_toe(), random_moves=4))


def played(agent: MuZeroAgent, seed: int) -> dict[str, Any]:
    """Wins, draws and losses against perfect play, each side first in half of the games."""
    game = tic_tac_toe()
    search = unscaled_gumbel_search(agent.model, simulations=SIMULATIONS, weight=agent.config.behaviour["weight"])
    policy = LatentPolicy(agent.model, SearchPolicy(search, seed=seed), seed=seed)
    found = play_match(game, policy, PerfectPlay(game, seed=seed), GAMES, seed=seed)
    return {"first": found.first._asdict(), "second": found.second._asdict(), "losses": found.total.losses}


def main() -> None:
    """Play and learn, with a match every now and then."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=180_000, help="moves of self-play in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--changes", default="{}", help="numbers that differ, as JSON")
    given = parser.parse_args()
    torch.set_num_threads(1)
    folder = RUNS / f"MuZero-{given.seed}"
    changes = json.loads(given.changes)
    agent = MuZeroAgent.board_game(opened, changes=changes, out=folder / "run", seed=given.seed, progress=False)
    before = json.loads((folder / "result.json").read_text()) if (folder / "result.json").is_file() else {}
    curve, cpu = before.get("curve", []), time.process_time() - before.get("cpu_seconds", 0.0)
    for steps in range(EVERY, given.steps + 1, EVERY):
        if steps <= agent.trainer.real_steps:
            continue
        metrics = agent.train(steps)
        found = {"moves": agent.trainer.real_steps, "updates": agent.trainer.global_step, **played(agent, given.seed)}
        curve.append(found)
        losses = {name: round(value, 3) for name, value in metrics.items() if "loss" in name}
        print(found, losses, f"{time.process_time() - cpu:.0f} s", flush=True)
        result = {"agent": "MuZero", "seed": given.seed, "changes": changes, "curve": curve}
        result["cpu_seconds"] = time.process_time() - cpu
        (folder / "result.json").write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
