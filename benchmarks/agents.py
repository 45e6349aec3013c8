"""Behaviour learned online, from nothing: real return by real steps, with SB3 on the real environment beside.

``python -m benchmarks.agents`` runs what is missing (finished runs are kept in ``runs/agents`` and resumed where they
were) and writes ``docs/benchmarks/agents.json``, ``agents.md`` and the curves. Each run is one thread of a CPU.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from gymnasium.spaces import Dict

from benchmarks.agents_page import draw, page
from benchmarks.real import RealGym
from wmcomponents.agents import (
    DeltaIRISAgent,
    DiamondAgent,
    DreamerV1Agent,
    DreamerV2Agent,
    DreamerV3Agent,
    EfficientZeroAgent,
    IRISAgent,
    MuZeroAgent,
    PlaNetAgent,
    STORMAgent,
    TDMPC2Agent,
    WholeAgent,
    WorldModelsAgent,
)
from wmcomponents.agents.bundle import newest
from wmcomponents.data import make_env
from wmcomponents.training import LinearDecay
from wmcomponents.training.nested_state import load_nested

OUT, RUNS = Path("docs/benchmarks"), Path("runs/agents")


@dataclass(frozen=True)
class Task:
    """What is learned, and by whom.

    Attributes:
        env: id of the environment.
        goal: return to reach.
        steps: real steps of a run.
        seeds: of the runs.
        options: of ``make_env``.
        evaluate_every: real steps between evaluations.
        episodes: of an evaluation.
        changes: of each agent's tiny config, by its name.
        baseline: SB3's algorithm on the real environment, its arguments and its real steps.
        steps_of: real steps of an agent's run, by its name, where they are others.
    """

    env: str
    goal: float
    steps: int
    seeds: tuple[int, ...] = (0, 1, 2)
    options: dict[str, Any] = field(default_factory=dict)
    evaluate_every: int = 1000
    episodes: int = 20
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)
    baseline: tuple[str, dict[str, Any], int] | None = None
    steps_of: dict[str, int] = field(default_factory=dict)


AGENTS: dict[str, type[WholeAgent]] = {
    "DreamerV3": DreamerV3Agent,
    "DreamerV2": DreamerV2Agent,
    "DreamerV1": DreamerV1Agent,
    "TD-MPC2": TDMPC2Agent,
    "PlaNet": PlaNetAgent,
    "MuZero": MuZeroAgent,
    "EfficientZero": EfficientZeroAgent,
    "DIAMOND": DiamondAgent,
    "IRIS": IRISAgent,
    "Delta-IRIS": DeltaIRISAgent,
    "World Models": WorldModelsAgent,
    "STORM": STORMAgent,
}

SIDE_BY_SIDE = {"TD-MPC2": 10, "PlaNet": 10}
"""Environments of an agent, where there are several: plans are made for all of them at once."""

ON_CARTPOLE = {
    "n_steps": 32, "batch_size": 256, "gae_lambda": 0.8, "gamma": 0.98, "n_epochs": 20, "learning_rate": 1e-3,
    "clip_range": 0.2,
}  # fmt: skip
"""Of RL Zoo's tuned PPO, for one environment in place of eight (n_steps eight times as large)."""

ON_SWINGUP: dict[str, Any] = {
    "prefill": 1000, "updates_per_step": 0.4, "vectors": "symlog",
    "behaviour": {"schedule": LinearDecay(15_600), "entropy_scale": 1e-3},
}  # fmt: skip
"""Velocities grow far beyond those of random play, and standardised they would be most of what the model fits."""

IN_LONG_STEPS: dict[str, Any] = {
    "prefill": 500, "updates_per_step": 0.6, "vectors": "symlog", "latent": "gaussian", "groups": 16,
    "behaviour": {"schedule": LinearDecay(3_550), "entropy_scale": 1e-3, "discount": 0.98},
}  # fmt: skip
"""Where an action lasts 80 ms, as in PlaNet. A Gaussian latent tells the angle of a pole that stands to 0.04, and
categories to 0.07; after a dream of 15 steps of 20 ms it is 0.10 and 0.24 (offline, a minute of fitting)."""

ON_BREAKOUT = {
    "prefill": 2_000, "updates_per_step": 0.25, "capacity": 50_000,
    "behaviour": {"schedule": LinearDecay(9_500)},
}  # fmt: skip
"""Its goal is four times what uniform actions earn (0.38)."""

ONE_TOKEN = {"tokens": 1, "largest_map": 0, "mults": (1, 1), "halves": (True, False), "frame_features": 4}
"""Delta-IRIS on images of 10 pixels a side: one token tells all that frame and action do not."""

OFTEN = {"episodic": False, "batch_size": 128, "updates_per_step": 1.0, "steps_between": 10}
"""TD-MPC2 where no episode ends before its time: an update for each real step, as in the paper."""

IN_200_STEPS = {**OFTEN, "evaluate_every": 2000, "episode_lengths": (200,)}
"""TD-MPC2 where episodes have 200 steps."""

IN_125_STEPS = {
    **OFTEN, "evaluate_every": 625, "evaluate_episodes": 10, "prefill": 500, "pretrain": 500, "vectors": "raw",
    "updates_per_step": 2.0, "episode_lengths": (125,),
}  # fmt: skip
"""TD-MPC2 where an action lasts 80 ms; velocities are unlike those of random play."""

FURTHER_AHEAD = {
    "evaluate_every": 3000, "evaluate_episodes": 10, "updates_per_step": 0.5, "behaviour": {"horizon": 16},
}  # fmt: skip
"""PlaNet where a swing takes more than the dozen steps of its paper."""

BY_SEARCH = {"evaluate_every": 1_000, "evaluate_episodes": 16}
"""A step of an evaluation costs a search."""

TASKS: dict[str, Task] = {
    "CartPole-v1": Task(
        "CartPole-v1", 475.0, 12_000,
        changes={
            "DreamerV3": {}, "DreamerV2": {}, "STORM": {}, "MuZero": BY_SEARCH, "EfficientZero": BY_SEARCH,
            "World Models": {},
        },
        steps_of={"World Models": 6_000, "MuZero": 4_000, "EfficientZero": 4_000},
        baseline=("PPO", {**ON_CARTPOLE, "n_steps": 256}, 60_000),
    ),
    "Pendulum-v1": Task(
        "Pendulum-v1", -250.0, 12_000,
        changes={
            "DreamerV3": {"prefill": 1000, "behaviour": {"discount": 0.98}}, "DreamerV1": {},
            "TD-MPC2": IN_200_STEPS, "PlaNet": FURTHER_AHEAD,
        },
        steps_of={"TD-MPC2": 6_000},
        baseline=("SAC", {"learning_rate": 1e-3}, 12_000),
    ),
    "cartpole-swingup": Task(
        "dm_control/cartpole-swingup", 700.0, 40_000, seeds=(0,), evaluate_every=2_500, episodes=5,
        changes={"DreamerV3": ON_SWINGUP},
        baseline=("SAC", {"learning_rate": 1e-3}, 40_000),
    ),
    "cartpole-swingup-8": Task(
        "dm_control/cartpole-swingup", 700.0, 6_250, seeds=(0,), options={"action_repeat": 8}, evaluate_every=625,
        episodes=10, changes={"DreamerV3": IN_LONG_STEPS, "TD-MPC2": IN_125_STEPS},
        baseline=("SAC", {"learning_rate": 1e-3}, 12_500),
    ),
    "MinAtar-Breakout": Task(
        "MinAtar/Breakout-v1", 1.5, 20_000, seeds=(0,), options={"from_pixels": True, "image_size": 16},
        evaluate_every=2_500, episodes=50,
        changes={"DreamerV3": ON_BREAKOUT, "DIAMOND": {}},
        baseline=("PPO", {"n_steps": 512, "n_epochs": 4, "ent_coef": 0.01, "learning_rate": 5e-4}, 120_000),
    ),
    "MinAtar-Breakout-10": Task(
        "MinAtar/Breakout-v1", 1.5, 30_000, seeds=(0,), options={"from_pixels": True, "image_size": 10},
        evaluate_every=2_000, episodes=50,
        changes={"DIAMOND": {}, "IRIS": {"grid": 5}, "Delta-IRIS": ONE_TOKEN, "STORM": {}},
        steps_of={"IRIS": 20_000, "Delta-IRIS": 20_000, "STORM": 20_000},
    ),
}  # fmt: skip


def learn(task: Task, name: str, seed: int, folder: Path) -> dict[str, Any]:
    """One run, in one thread, gone on with where it was."""
    changes = {"evaluate_every": task.evaluate_every, "evaluate_episodes": task.episodes, **task.changes[name]}
    env = make_env(task.env, **task.options) if task.options else task.env
    agent = AGENTS[name].tiny(
        env, changes=changes, out=folder / "run", seed=seed, progress=False, num_envs=SIDE_BY_SIDE.get(name)
    )
    begun = agent.trainer.real_steps  # above 0 in a run that goes on: its seconds are those since then
    cpu, wall = time.process_time(), time.perf_counter()

    class Clock:
        """Prints every evaluation."""

        def on_validation_end(self, trainer: Any, agent: Any) -> None:
            """After each evaluation."""
            print(task.env, name, seed, trainer.evaluations[-1], f"{time.process_time() - cpu:.0f} s", flush=True)

    agent.trainer.callbacks = [Clock()]
    agent.train(task.steps_of.get(name, task.steps))
    return {
        "task": task.env, "agent": name, "seed": seed, "changes": task.changes[name],
        "curve": agent.trainer.evaluations,
        "cpu_seconds": time.process_time() - cpu, "seconds": time.perf_counter() - wall, "timed_from": begun,
    }  # fmt: skip


def baseline(task: Task, seed: int) -> dict[str, Any]:
    """SB3 on the real environment."""
    import stable_baselines3 as sb3
    from stable_baselines3.common.evaluation import evaluate_policy

    assert task.baseline is not None
    name, arguments, steps = task.baseline
    cpu, wall = time.process_time(), time.perf_counter()
    real, other = (RealGym(make_env(task.env, **task.options)) for _ in range(2))
    kind = "MultiInputPolicy" if isinstance(real.observation_space, Dict) else "MlpPolicy"
    algorithm = getattr(sb3, name)(kind, real, seed=seed, device="cpu", **arguments)
    curve = []
    for _ in range(0, steps, task.evaluate_every):
        algorithm.learn(task.evaluate_every, reset_num_timesteps=False)
        other.reset(seed=10_000 + seed)
        mean, _ = evaluate_policy(algorithm, other, task.episodes, warn=False)
        curve.append({"real_steps": algorithm.num_timesteps, "return": float(mean)})
    return {
        "task": task.env, "agent": f"SB3 {name}", "seed": seed, "curve": curve, "changes": arguments,
        "cpu_seconds": time.process_time() - cpu, "seconds": time.perf_counter() - wall,
    }  # fmt: skip


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description="behaviour learned online")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--agents", nargs="+", default=None, help="of the tasks' agents; 'SB3' for the baselines")
    parser.add_argument("--seeds", type=int, nargs="+", default=None)
    parser.add_argument("--table", action="store_true", help="only write the page of the runs that are there")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for key in given.tasks if not given.table else ():
        task = TASKS[key]
        for seed in task.seeds if given.seeds is None else given.seeds:
            for name in [*task.changes, *(["SB3"] if task.baseline is not None else [])]:
                folder = RUNS / key / f"{name}-{seed}"
                if (given.agents is None or name in given.agents) and not (folder / "result.json").is_file():
                    folder.mkdir(parents=True, exist_ok=True)
                    found = baseline(task, seed) if name == "SB3" else learn(task, name, seed, folder)
                    (folder / "result.json").write_text(json.dumps(found, default=str) + "\n")
    write()


def _run_in(folder: Path, task: Task) -> dict[str, Any] | None:
    """A run that ended, or the curve so far of one that was stopped after its first evaluation."""
    if (folder / "result.json").is_file():
        return json.loads((folder / "result.json").read_text())
    name, _, seed = folder.name.rpartition("-")
    kept = newest(folder / "run") if (folder / "run").is_dir() else None
    curve = [] if kept is None else load_nested(kept / "agent.safetensors")["evaluations"]
    if not curve or name not in task.changes:
        return None
    made = {"task": task.env, "agent": name, "seed": int(seed), "changes": task.changes[name], "curve": curve}
    return {**made, "cpu_seconds": None, "seconds": None}


def known(key: str, task: Task, published: dict[str, Any]) -> list[dict[str, Any]]:
    """The runs of a task: those that are kept here, and those of the page of which no longer one is."""
    here = [run for folder in sorted((RUNS / key).glob("*")) if (run := _run_in(folder, task)) is not None]
    runs = {(run["agent"], run["seed"]): run for run in published.get("tasks", {}).get(key, {}).get("runs", [])}
    for run in here:
        before = runs.get((run["agent"], run["seed"]))
        if before is None or len(run["curve"]) >= len(before["curve"]):
            runs[run["agent"], run["seed"]] = run
    return [runs[name] for name in sorted(runs)]


def write() -> None:
    """The page, its numbers, its curves."""
    file = OUT / "agents.json"
    published = json.loads(file.read_text()) if file.is_file() else {}
    found = {key: known(key, task, published) for key, task in TASKS.items()}
    tasks = {key: {**asdict(task), "runs": found[key]} for key, task in TASKS.items() if found[key]}
    games = [json.loads(game.read_text()) for game in sorted((RUNS / "tic-tac-toe").glob("*/result.json"))]
    games = games or published.get("tic_tac_toe", [])
    facts = {"torch": torch.__version__, "command": "python -m benchmarks.agents", "tasks": tasks, "tic_tac_toe": games}
    text = json.dumps(facts, indent=1, default=str) + "\n"
    file.write_text(text)
    (OUT / "agents.md").write_text(page(json.loads(text)))
    draw(json.loads(text), OUT / "media" / "agents.svg")


if __name__ == "__main__":
    main()
