"""Planning to unseen goals in PointMaze with a JEPA of random data: success by the number of sequences that are tried.

``python -m benchmarks.features_pointmaze`` writes ``docs/benchmarks/point_maze.json`` and ``point_maze.md``. Fits and
episodes are kept in ``runs/point_maze`` and not made again; the extra ``goals`` is needed.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from wmcomponents.agents import PlanningAgent
from wmcomponents.agents.planners import GoalDistance, cem
from wmcomponents.data import collect, make_env, make_replay
from wmcomponents.dream import GoalReward, GoalWorldModel
from wmcomponents.evaluation import GoalsReached, evaluate_goals, wilson_interval
from wmcomponents.models import JEPA
from wmcomponents.training import Trainer

OUT, RUNS, ENV = Path("docs/benchmarks"), Path("runs/point_maze"), "wmcomponents/PointMaze-v0"
SHOWN = {"proprioception": True, "pixels": False, "held": 25}
"""What a model sees, position and velocity; and that an action lasts for a quarter of a second."""
STEPS, EPISODE, UPDATES, SEEDS = 5000, 40, 600, (0, 1)
CANDIDATES = (4, 16, 64, 256)
HORIZON, ITERATIONS, RUNNING = 10, 4, 0.1
EPISODES, LIMIT, GOALS = 50, 8, 1000
"""Episodes of each row, actions in which a goal is to be reached, and the seed of starts and goals."""


class Fits:
    """Models of the same random data, one a seed; data are collected where a fit is not kept.

    Args:
        runs: where fits are kept.
        steps: of the data.
        updates: of each fit.
    """

    def __init__(self, runs: Path, steps: int, updates: int) -> None:
        self.runs, self.steps, self.updates = runs, steps, updates
        self.env = make_env(ENV, env_kwargs=SHOWN, seed=0, max_episode_steps=EPISODE)
        self._replay: Any = None

    def model(self, seed: int) -> tuple[JEPA, float]:
        """The model of a seed, and the processor's seconds that its fit took."""
        torch.manual_seed(seed)
        model, kept = JEPA("tiny", self.env), self.runs / f"fit-{seed}.pt"
        if kept.is_file():
            held = torch.load(kept, weights_only=True)
            model.load_state_dict(held["weights"])
            return model.eval(), held["seconds"]
        replay = self.replay()
        begun = time.process_time()
        Trainer(model, replay, progress=False).train(self.updates)
        seconds = time.process_time() - begun
        torch.save({"weights": model.state_dict(), "seconds": seconds}, kept)
        return model.eval(), seconds

    def replay(self) -> Any:
        """The random data."""
        if self._replay is None:
            self._replay = make_replay(self.steps, self.env, sequence_length=9, batch_size=64, seed=0, print_fn=None)
            collect(self.env, self._replay, self.steps, seed=0, action_repeat_prob=0.5)
        return self._replay


def played(policy: Any, episodes: int) -> dict[str, Any]:
    """What came of a policy in the real maze, and the processor's seconds it took."""
    real = make_env(ENV, env_kwargs={**SHOWN, "goal": True}, num_envs=min(episodes, 25))
    begun = time.process_time()
    found = evaluate_goals(
        real, policy, episodes, seed=GOALS, max_steps=LIMIT, distance=lambda step: -step["next", "reward"]
    )
    real.close()
    return {"reached": found.reached, "lengths": found.lengths, "seconds": time.process_time() - begun, **_said(found)}


def _said(found: GoalsReached) -> dict[str, Any]:
    return {"distance": round(found.mean_distance, 4)}


def planned(model: JEPA, candidates: int, episodes: int) -> dict[str, Any]:
    """Planning anew at every step, with so many sequences in each iteration."""
    reward = GoalReward(model)
    planner = cem(
        GoalWorldModel(model, reward),
        GoalDistance.of(reward, running=RUNNING),
        horizon=HORIZON,
        candidates=candidates,
        elites=max(2, candidates // 8),
        budget=ITERATIONS,
        seed=0,
    )
    return played(PlanningAgent(planner).real_policy, episodes)


def random_actions(shown: Any) -> Any:
    """Uniform ones."""
    return shown.set("action", 2 * torch.rand(*shown.shape, 2) - 1)


def measure(runs: Path, *, steps: int, updates: int, seeds: tuple[int, ...], episodes: int) -> dict[str, Any]:
    """All fits and all numbers of sequences; what is kept is read."""
    runs.mkdir(parents=True, exist_ok=True)

    def kept(name: str, make: Any) -> dict[str, Any]:
        file = runs / f"{name}.json"
        if not file.is_file():
            file.write_text(json.dumps(make()))
        return json.loads(file.read_text())

    torch.manual_seed(0)
    facts: dict[str, Any] = {"random": kept("random", lambda: played(random_actions, episodes)), "fits": [], "rows": []}
    fits = Fits(runs, steps, updates)
    for seed in seeds:
        model, seconds = fits.model(seed)
        facts["fits"].append({"seed": seed, "seconds": round(seconds, 1)})
        for candidates in CANDIDATES:
            one = kept(f"{seed}-{candidates}", lambda m=model, c=candidates: planned(m, c, episodes))
            facts["rows"].append({"seed": seed, "candidates": candidates, **one})
    return {**facts, "steps": steps, "updates": updates, "episodes": episodes, "torch": torch.__version__}


def _cells(rows: list[dict[str, Any]]) -> str:
    reached = [one for row in rows for one in row["reached"]]
    took = [length for row in rows for one, length in zip(row["reached"], row["lengths"], strict=True) if one]
    low, high = wilson_interval(sum(reached), len(reached))
    by_seed = ", ".join(f"{100 * sum(row['reached']) / len(row['reached']):.0f}" for row in rows)
    distance = sum(row["distance"] for row in rows) / len(rows)
    seconds = sum(row["seconds"] for row in rows) / len(reached)
    mean = f"{sum(took) / len(took):.1f}" if took else ""
    rate = f"{100 * sum(reached) / len(reached):.0f} % ({100 * low:.0f} to {100 * high:.0f})"
    return f"{rate} | {by_seed} | {mean} | {distance:.2f} | {seconds:.2f} |"


def page(facts: dict[str, Any]) -> str:
    """The table that the numbers give."""
    lines = [
        "# Planning to goals in PointMaze",
        "",
        "A ball with a mass in a U-shaped maze is to reach a place in another cell. A small JEPA sees position and",
        "velocity, has random data alone, and is never told a reward; the cross-entropy method plans in it, anew at",
        "every step, towards the features of the goal. How often goals are reached, by the number of sequences that",
        "each of the planner's iterations tries:",
        "",
        "| sequences | goals reached (95 %) | by seed, % | steps | distance at the end | seconds an episode |",
        "|---|---|---|---|---|---|",
    ]
    for candidates in dict.fromkeys(row["candidates"] for row in facts["rows"]):
        rows = [row for row in facts["rows"] if row["candidates"] == candidates]
        lines.append(f"| {candidates} | {_cells(rows)}")
    lines.append(f"| random actions | {_cells([facts['random']])}")
    seeds = [fit["seed"] for fit in facts["fits"]]
    seconds = sum(fit["seconds"] for fit in facts["fits"]) / len(seeds)
    lines += [
        "",
        "## How it was measured",
        "",
        f"`python -m benchmarks.features_pointmaze`, torch {facts['torch']}, one thread, the process's own time. JEPA",
        f"`tiny`, {facts['steps']:,} random actions of a quarter of a second (each kept from the one before with",
        f"probability 0.5) and {facts['updates']:,} updates, which took {seconds:.0f} s. {facts['episodes']}",
        f"episodes for each of {len(seeds)} seeds of the fit, with the same starts and goals for all; {LIMIT} actions",
        f"to get there, within 0.5 of the goal, where a cell is 1 wide. {ITERATIONS} iterations, {HORIZON} actions",
        "ahead, an eighth of the sequences are elites (2 at least), distances before the last one weigh",
        f"{RUNNING}. Steps are of the episodes that reached their goal.",
        "",
        "The model sees four numbers here, and not images: `wmcomponents/PointMaze-v0` shows those too, and such a fit",
        "was not measured. With 30 actions allowed, random ones reached some 80 % of the goals, so that planners could",
        "not be told apart; 8 were chosen after that was seen.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.features_pointmaze", description=__doc__)
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--updates", type=int, default=UPDATES)
    parser.add_argument("--episodes", type=int, default=EPISODES)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    facts = measure(
        given.runs, steps=given.steps, updates=given.updates, seeds=tuple(given.seeds), episodes=given.episodes
    )
    (given.out / "point_maze.json").write_text(json.dumps(facts, indent=1) + "\n")
    (given.out / "point_maze.md").write_text(page(facts))


if __name__ == "__main__":
    main()
