"""Behaviour learned in imagination on CartPole: real return by real steps, over seeds, for two papers' assemblies.

``python -m benchmarks.agents`` writes ``docs/benchmarks/agents.json`` and ``agents.md``. Each run goes in rounds:
collect real steps (the first round at random), fit the world model, learn actor and critic in its dreams alone, look
how they do on the real environment. Finished runs are kept in ``runs/agents`` and not repeated.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torchrl.envs.utils import ExplorationType, set_exploration_type

from wmcomponents.agents.actor_critic import dreamer_v2_loss, dreamer_v3_loss
from wmcomponents.agents.dream_trainer import DreamTrainer
from wmcomponents.data import RealCollector, make_env, make_replay
from wmcomponents.dream import ReplayStarts
from wmcomponents.evaluation import evaluate_policy
from wmcomponents.integrations.torchrl import LatentPolicy
from wmcomponents.models import DreamerV3
from wmcomponents.training import Trainer, seed_everything

ENV, GOAL, EPISODES = "CartPole-v1", 475.0, 20
PAPERS: dict[str, tuple[Any, dict[str, Any], float]] = {
    "DreamerV3": (dreamer_v3_loss, {"discount": 0.997}, 1e-3),
    "DreamerV2": (dreamer_v2_loss, {"discount": 0.995}, 3e-4),
}
"""Assembly, what differs from it, and the learning rate of actor and critic (the papers' are for days, not minutes)."""


def run(paper: str, seed: int, rounds: int, steps: int, model_updates: int, updates: int) -> dict[str, Any]:
    """One run, in one thread."""
    torch.set_num_threads(1)
    seed_everything(seed)
    cpu, wall = time.process_time(), time.perf_counter()
    build, options, lr = PAPERS[paper]
    env = make_env(ENV, seed=seed)
    model = DreamerV3("tiny", env)
    replay = make_replay(rounds * steps, env, sequence_length=32, batch_size=16, seed=seed, print_fn=None)
    trainer = Trainer(model, replay, lr=1e-3, warmup=100, seed=seed, progress=False)
    loss = build(model, units=128, seed=seed, **options)
    optimizer = loss.make_optimizer(lr=lr, warmup=20)
    policy = LatentPolicy(model, loss.actor)

    def real(seed: int) -> Any:
        seen = make_env(ENV, seed=seed)
        seen.append_transform(policy.make_tensordict_primer())
        return seen

    curve, dreamed = [], 0
    for number in range(rounds):
        if number == 0:
            RealCollector(env, replay, seed=seed).collect(steps)
            kept = [key for key in replay.sample().keys(True, True) if key != "index"]
        else:
            with set_exploration_type(ExplorationType.RANDOM), torch.no_grad():
                played = real(seed + number).rollout(steps, policy, break_when_any_done=False)
            replay.extend(played.select(*kept))
        trainer.train(model_updates * (number + 1))
        starts = ReplayStarts(model, replay.sample, pool_size=4096, seed=seed + number).refresh()
        learner = DreamTrainer(loss, starts, optimizer=optimizer, seed=seed + number)
        learner.train(updates)
        dreamed += learner.dreamed_steps
        with set_exploration_type(ExplorationType.MODE):
            found = evaluate_policy(real(10_000 + seed), policy, EPISODES, seed=10_000 + seed)
        curve.append({"real_steps": (number + 1) * steps, "real_return": found.mean, "dreamed_steps": dreamed})
        print(paper, seed, curve[-1], flush=True)
    return {
        "paper": paper,
        "seed": seed,
        "curve": curve,
        "cpu_seconds": time.process_time() - cpu,
        "seconds": time.perf_counter() - wall,
    }


def table(runs: list[dict[str, Any]], facts: dict[str, Any]) -> str:
    """The page."""
    lines = [
        "# Behaviour learned in imagination",
        "",
        f"Real return on {ENV} (of 500, mean of {EPISODES} episodes without exploration) of actors that were trained",
        "in the dreams of a tiny DreamerV3 world model alone, by the real steps that model had seen. Returns come and",
        "go: an actor that balances for an episode may be lost again after the next round.",
        "",
    ]
    for paper in dict.fromkeys(each["paper"] for each in runs):
        own = [each for each in runs if each["paper"] == paper]
        columns = [str(each["seed"]) for each in own]
        lines += [f"## {paper}'s actor-critic", "", "| real steps | " + " | ".join(f"seed {c}" for c in columns) + " |"]
        lines.append("|---" * (len(own) + 1) + "|")
        for row in zip(*(each["curve"] for each in own), strict=True):
            cells = " | ".join(f"{point['real_return']:.1f}" for point in row)
            lines.append(f"| {row[0]['real_steps']:,} | {cells} |")
        last = [each["curve"][-1]["real_return"] for each in own]
        best = [next((p["real_steps"] for p in each["curve"] if p["real_return"] >= GOAL), None) for each in own]
        reached = ", ".join("not reached" if steps is None else f"{steps:,}" for steps in best)
        cpu = " / ".join(f"{each['cpu_seconds']:.0f}" for each in own)
        wall = " / ".join(f"{each['seconds']:.0f}" for each in own)
        lines += [
            "",
            f"Median at the end: **{statistics.median(last):.1f}**. Real steps to {GOAL:.0f}, tested after each round:",
            f"{reached}. Dreamed steps: {own[0]['curve'][-1]['dreamed_steps']:,}. CPU seconds of one thread: {cpu};",
            f"wall seconds, beside other work: {wall}.",
            "",
        ]
    lines += [
        "## How it was measured",
        "",
        f"`{facts['command']}` with torch {facts['torch']}: in each of {facts['rounds']} rounds {facts['steps']:,}",
        f"real steps, {facts['model_updates']} updates of the world model, {facts['updates']} of actor and critic on",
        "256 dreams of 15 steps. The actor collects with exploration from the second round on. Learning rates are",
        "those of minutes on a CPU, not the papers': " + ", ".join(f"{p} {v[2]:g}" for p, v in PAPERS.items()) + ".",
        "The numbers are in `agents.json`.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description="behaviour learned in imagination on CartPole")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--papers", nargs="+", choices=list(PAPERS), default=list(PAPERS))
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=1250)
    parser.add_argument("--model-updates", type=int, default=300)
    parser.add_argument("--updates", type=int, default=150)
    parser.add_argument("--runs", type=Path, default=Path("runs/agents"))
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    given = parser.parse_args()
    given.runs.mkdir(parents=True, exist_ok=True)
    plan = (given.rounds, given.steps, given.model_updates, given.updates)
    runs = []
    for paper in given.papers:
        for seed in given.seeds:
            kept = given.runs / f"{paper}-{seed}-{'-'.join(map(str, plan))}.json"
            if not kept.is_file():
                kept.write_text(json.dumps(run(paper, seed, *plan)) + "\n")
            runs.append(json.loads(kept.read_text()))
    facts = dict(zip(("rounds", "steps", "model_updates", "updates"), plan, strict=True))
    facts |= {"torch": torch.__version__, "command": "python -m benchmarks.agents"}
    (given.out / "agents.json").write_text(json.dumps({**facts, "runs": runs}, indent=1) + "\n")
    (given.out / "agents.md").write_text(table(runs, facts))


if __name__ == "__main__":
    main()
