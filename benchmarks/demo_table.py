"""The demo's learning table: real steps and real return over seeds, beside PPO trained on the real environment.

Run it with ``python -m benchmarks.demo_table``; it writes ``docs/benchmarks/demo.json`` and ``demo.md``. A seed of the
demo takes some minutes; finished seeds are kept in ``runs/demo-table`` and not repeated.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.openings import figure
from benchmarks.plots import draw

GOAL = 475.0
EPISODES = 20


def run_demo(seed: int, folder: Path, *options: str) -> dict[str, Any]:
    """One seed of the demo, with these options, as a process of its own, or the result of an earlier one."""
    result = folder / f"{seed}.json"
    if not result.is_file():
        command = [sys.executable, "-c", "import sys; from wmcomponents.cli import main; sys.exit(main())"]
        command += ["demo", "--seed", str(seed), "--out", str(folder / f"seed-{seed}"), *options]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        folder.mkdir(parents=True, exist_ok=True)
        result.write_text(done.stdout.strip().splitlines()[-1] + "\n")
    return json.loads(result.read_text())


def run_direct(seed: int, folder: Path, limit: int = 200_000) -> dict[str, Any]:
    """SB3's PPO with its default hyper-parameters on the real CartPole, until its mean real return reaches the goal."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy

    result = folder / f"{seed}-direct.json"
    if not result.is_file():
        torch.set_num_threads(1)
        begun = time.perf_counter()
        agent = PPO("MlpPolicy", make_vec_env("CartPole-v1", 1, seed=seed), seed=seed, device="cpu")
        mean = 0.0
        while mean < GOAL and agent.num_timesteps < limit:
            agent.learn(2048, reset_num_timesteps=False)
            test = make_vec_env("CartPole-v1", EPISODES, seed=20_000 + seed)
            mean = float(evaluate_policy(agent, test, n_eval_episodes=EPISODES)[0])
        found = {
            "seed": seed,
            "real_steps": agent.num_timesteps if mean >= GOAL else None,
            "real_return": mean,
            "seconds": round(time.perf_counter() - begun, 1),
        }
        folder.mkdir(parents=True, exist_ok=True)
        result.write_text(json.dumps(found) + "\n")
    return json.loads(result.read_text())


def table(demos: list[dict[str, Any]], direct: list[dict[str, Any]]) -> str:
    """The page."""
    median = statistics.median(demo["real_return"] for demo in demos)
    short = [str(demo["seed"]) for demo in demos if demo["real_return"] < GOAL]
    needed = [other["real_steps"] for other in direct if other["real_steps"]]
    lines = [
        "# The demo over five seeds",
        "",
        f"Median real return: **{median:.1f}** of 500 with {demos[0]['real_steps']:,} real steps. "
        f"PPO on the real environment needed a median of {statistics.median(needed):,.0f}.",
        "",
        figure("demo", "Real return over real steps: agents of dreams, and PPO in the real environment"),
        "",
        "| seed | real steps | dreamed steps | random | dream | **real return** | wall time | real steps of PPO |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for demo, other in zip(demos, direct, strict=True):
        steps = f"{other['real_steps']:,}" if other["real_steps"] else "not reached"
        lines.append(
            f"| {demo['seed']} | {demo['real_steps']:,} | {demo['dream_steps']:,} | {demo['random_return']:.1f} "
            f"| {demo['dream_return']:.1f} | **{demo['real_return']:.1f}** | {demo['seconds']:.0f} s | {steps} |"
        )
    lines += [
        "",
        f"Seeds below {GOAL:.0f}: {', '.join(short) or 'none'}. Where the agent falls short, the cart drifts away.",
        "",
        "## How it was measured",
        "",
        "`make demo` on CartPole-v1, once for each seed: real steps collected in rounds, a tiny DreamerV3 world model",
        "fitted to them, SB3's PPO trained only inside the dream, then 20 episodes in the real environment without",
        "exploration. Beside it SB3's PPO with its default hyper-parameters, trained on the real environment until its",
        f"mean return over {EPISODES} episodes reaches {GOAL:.0f} of 500 (tested every 2,048 steps; the steps",
        "of testing are not counted on either side).",
        "",
        "The wall times were taken on a shared machine with 2 cores, while other work ran beside them.",
        "",
        "Command: `python -m benchmarks.demo_table` (numbers in `demo.json`).",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--runs", type=Path, default=Path("runs/demo-table"))
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    arguments = parser.parse_args()
    demos = [run_demo(seed, arguments.runs) for seed in arguments.seeds]
    direct = [run_direct(seed, arguments.runs) for seed in arguments.seeds]
    for demo in demos:
        demo.pop("files")
    arguments.out.mkdir(parents=True, exist_ok=True)
    facts = {"torch": torch.__version__, "cores": os.cpu_count(), "demo": demos, "ppo_on_the_real_environment": direct}
    (arguments.out / "demo.json").write_text(json.dumps(facts, indent=2) + "\n")
    (arguments.out / "demo.md").write_text(table(demos, direct))
    draw("demo", arguments.out)


if __name__ == "__main__":
    main()
