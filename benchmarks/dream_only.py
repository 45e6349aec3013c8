"""Agents trained only in the dreams of DIAMOND and IRIS of MinAtar's Breakout: real return beside the random one.

Run it with ``python -m benchmarks.dream_only``; it writes ``docs/benchmarks/dream_only.json`` and ``dream_only.md``.
The world models are those of ``python -m benchmarks.pixels``, fitted first where they are missing. Finished runs are
kept in ``runs/dream-only`` and not repeated.
"""

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from tensordict.nn import TensorDictModuleBase
from torchrl.envs.utils import ExplorationType, set_exploration_type

from benchmarks.fitting import REAL_STEPS, data
from benchmarks.pixel_worlds import FAMILIES, FITS, MINATAR, WORLDS, run_name
from benchmarks.pixels import fit
from wmcomponents.agents.actor_critic import diamond_loss, iris_loss
from wmcomponents.agents.dream_trainer import DreamTrainer
from wmcomponents.cli.console import quiet
from wmcomponents.data import RandomPolicy, make_env
from wmcomponents.dream import ReplayStarts
from wmcomponents.evaluation import Returns, evaluate_policy
from wmcomponents.integrations.sb3 import DreamVecEnv, SB3Policy
from wmcomponents.models.loading import load
from wmcomponents.pretrained import PretrainedModel
from wmcomponents.training import seed_everything

LOSSES: dict[str, Any] = {"Diamond": diamond_loss, "IRIS": iris_loss}
UPDATES, PPO_STEPS, EPISODES, POINTS = {"Diamond": 240, "IRIS": 240}, 30_720, 100, 3
OWN: dict[str, Any] = {"units": 128}
LR, WARMUP = 1e-3, 20
"""The papers' rate is 1e-4, for days instead of minutes."""
SEQUENCES = {"Diamond": 4, "IRIS": 9}
BATCH, PPO_ROWS, HORIZON = 16, 32, 40


def real(policy: TensorDictModuleBase, seed: int, episodes: int = EPISODES) -> Returns:
    """What a policy earns on the real game; it draws its actions, as the papers' do."""
    env = make_env(MINATAR, seed=seed, **WORLDS[MINATAR].options)
    primer = getattr(policy, "make_tensordict_primer", None)
    if primer is not None:
        env.append_transform(primer())
    torch.manual_seed(seed)
    with set_exploration_type(ExplorationType.RANDOM):
        found = evaluate_policy(env, policy, episodes, seed=seed)
    env.close()
    return found


def own(family: str, model: PretrainedModel, seed: int, pixels: Path, updates: int) -> dict[str, Any]:
    """The paper's actor-critic, learned in dreams behind the data that the model was fitted to."""
    world = WORLDS[MINATAR]
    replay = data(MINATAR, seed, REAL_STEPS, SEQUENCES[family], BATCH, pixels, **world.options)
    loss = LOSSES[family](model, seed=seed, **OWN)
    trainer = DreamTrainer(loss, replay.sample, optimizer=loss.make_optimizer(lr=LR, warmup=WARMUP))
    curve, cpu, wall = [], 0.0, 0.0
    for point in range(1, POINTS + 1):
        started = time.process_time(), time.perf_counter()
        found = trainer.train(updates * point // POINTS - trainer.updates)
        cpu, wall = cpu + time.process_time() - started[0], wall + time.perf_counter() - started[1]
        earned = real(loss.real_policy, 10_000 + seed, EPISODES if point == POINTS else EPISODES // 4)
        curve.append({"dreamed_steps": trainer.dreamed_steps, **earned.to_json(), "diagnostics": found})
        print(family, "own", point, earned.mean, {key: round(value, 3) for key, value in found.items()}, flush=True)
    return {"curve": curve, "cpu_seconds": cpu, "seconds": wall}


def ppo(family: str, model: PretrainedModel, seed: int, pixels: Path, steps: int) -> dict[str, Any]:
    """Stable-Baselines3's PPO in the same dreams."""
    from stable_baselines3 import PPO

    world = WORLDS[MINATAR]
    replay = data(MINATAR, seed, REAL_STEPS, SEQUENCES[family], BATCH, pixels, **world.options)
    starts = ReplayStarts(model, replay.sample, pool_size=512, seed=seed)
    dream = DreamVecEnv(model, PPO_ROWS, seed=seed, horizon=HORIZON, starts=starts)
    agent = PPO(
        "MlpPolicy", dream, n_steps=32, batch_size=256, n_epochs=4, learning_rate=5e-4, gamma=0.985, ent_coef=0.01,
        seed=seed, device="cpu", policy_kwargs={"net_arch": [256, 256]},
    )  # fmt: skip
    policy = SB3Policy(agent, model.observation_spec, model.action_spec)
    curve, cpu, wall = [], 0.0, 0.0
    for point in range(1, POINTS + 1):
        started = time.process_time(), time.perf_counter()
        agent.learn(steps // POINTS, reset_num_timesteps=point == 1)
        cpu, wall = cpu + time.process_time() - started[0], wall + time.perf_counter() - started[1]
        earned = real(policy, 10_000 + seed, EPISODES if point == POINTS else EPISODES // 4)
        curve.append({"dreamed_steps": int(agent.num_timesteps), **earned.to_json()})
        print(family, "PPO", point, earned.mean, flush=True)
    return {"curve": curve, "cpu_seconds": cpu, "seconds": wall}


def chance(seed: int) -> dict[str, Any]:
    """What uniform actions earn."""
    env = make_env(MINATAR, **WORLDS[MINATAR].options)
    policy = RandomPolicy(env.action_spec, generator=torch.Generator().manual_seed(seed))
    env.close()
    return {"curve": [{"dreamed_steps": 0, **real(policy, 10_000 + seed).to_json()}], "cpu_seconds": 0, "seconds": 0}


def run(family: str, agent: str, seed: int, pixels: Path) -> dict[str, Any]:
    """One agent in one model, in one thread."""
    torch.set_num_threads(1)
    seed_everything(seed)
    if agent == "random":
        return {"family": family, "agent": agent, "seed": seed, "real_steps": 0, **chance(seed)}
    fitted = fit(family, MINATAR, seed, pixels, FITS[family, MINATAR])
    model = load(pixels / run_name(family, MINATAR, seed) / "model")
    if agent == "PPO":
        made = ppo(family, model, seed, pixels, PPO_STEPS)
    else:
        made = own(family, model, seed, pixels, UPDATES[family])
    facts = {"real_steps": REAL_STEPS, "model_cpu_seconds": fitted["cpu_seconds"]}
    return {"family": family, "agent": agent, "seed": seed, **facts, **made}


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
        f"{EPISODES} episodes | standard error | on the way ({EPISODES // 4} episodes) | agent's CPU (wall) |",
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
    return "\n".join([*lines, "", METHOD, ""])


METHOD = f"""\
## How it was measured

- The papers' actor-critics (`diamond_loss`, `iris_loss`) with a memory of {OWN["units"]} units, learning rate {LR:g}
  (the papers': 1e-4, for days), {BATCH} dreams an update, of 15 (DIAMOND) and 19 steps (IRIS), from the frames of the
  data that the model was fitted to. What else they are is the papers'.
- PPO: a policy of two layers of 256 over the frame, {PPO_ROWS} dreams side by side of at most {HORIZON} steps, from
  states of the same data.
- Every agent draws its actions in reality too, as in the papers. The game has sticky actions (0.1). A return counts
  bricks; uniform actions are another policy than that which collected the data (it repeats actions at times).
- One thread, beside other work. The fit of the model is not in the agent's time.

Command: `python -m benchmarks.dream_only` (numbers in [dream_only.json](dream_only.json))."""


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", nargs="+", default=list(LOSSES), choices=list(LOSSES))
    parser.add_argument("--agents", nargs="+", default=["own", "PPO"], choices=["own", "PPO"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--pixels", type=Path, default=Path("runs/pixels"), help="where the world models are kept")
    parser.add_argument("--runs", type=Path, default=Path("runs/dream-only"))
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    parser.add_argument("--report", action="store_true", help="run nothing; write the page of what was found so far")
    given = parser.parse_args()
    quiet()
    given.runs.mkdir(parents=True, exist_ok=True)
    wanted = [(given.families[0], "random", seed) for seed in given.seeds]
    wanted += [(f, agent, seed) for f in given.families for seed in given.seeds for agent in given.agents]
    runs = []
    for family, agent, seed in wanted:
        kept = given.runs / (f"random-{seed}.json" if agent == "random" else f"{family}-{agent}-{seed}.json")
        if not kept.is_file() and not given.report:
            kept.write_text(json.dumps(run(family, agent, seed, given.pixels)) + "\n")
        if kept.is_file():
            runs.append(json.loads(kept.read_text()))
    facts = {"torch": torch.__version__, "command": "python -m benchmarks.dream_only", "runs": runs}
    (given.out / "dream_only.json").write_text(json.dumps(facts, indent=1) + "\n")
    (given.out / "dream_only.md").write_text(table(runs))


if __name__ == "__main__":
    main()
