"""An agent trained only inside the dreams of every family: real steps and real return on CartPole.

Run it with ``python -m benchmarks.dream_agents``; it writes ``docs/benchmarks/dream_agents.json`` and
``dream_agents.md``. A run takes some minutes; finished ones are kept in ``runs/dream-agents`` and not repeated.
"""

import argparse
import json
import os
import statistics
from pathlib import Path
from typing import Any

import torch
from torchrl.data import Composite, OneHot, Unbounded

from benchmarks.demo_table import run_demo
from benchmarks.openings import figure
from benchmarks.plots import draw
from wmcomponents.models import MODELS, make_model

GOAL, SEEDS = 400.0, (0, 1, 2)
FAMILIES = ("WorldModels", "PlaNet", "DreamerV1", "DreamerV2", "DreamerV3", "TDMPC2", "MuZero", "EfficientZero")
COMMON = {"--rounds": "6", "--dream-steps": "30720", "--final-dream-steps": "122880"}
"""Arguments of `wmc demo` that differ from its defaults: shorter runs than those of `make demo`."""
HELD_TO_THE_FILTER = {"--horizon": "16", "--changes": "agreement_scale=1.0 standardize=False"}
"""Of agents that act on latents: dreams no longer than what their models are unrolled in training, and latents held to
those that the filter gives in reality, where states far from those of random play are met too."""
OPTIONS: dict[str, dict[str, str]] = {
    "DreamerV3": {"--rounds": "8", "--dream-steps": "40960", "--final-dream-steps": "163840"},  # as in `make demo`
    # Every round begins with V, in the data of all rounds so far: the paper's iterative procedure.
    "WorldModels": {"--updates": "1200", "--changes": "vision_steps=200 cycle_steps=1200"},
    "MuZero": HELD_TO_THE_FILTER,
    "EfficientZero": HELD_TO_THE_FILTER,
}
"""Further ones, by family."""

INTRODUCTION = f"""\
# Agents trained inside the dreams of every family

What an agent earns on the real CartPole that never took a gradient step outside a model's dream.

{figure("dream_agents", "Real return of agents trained in the dreams of every family, a dot for each seed")}

| family | sees | real steps | dreamed steps | real return, one seed after the other | median | wall time |
|---|---|---|---|---|---|---|
"""

METHOD = f"""\
**Bold**: {GOAL:.0f} or more, of 500. A random policy earns about 22.

## How it was measured

`wmc demo --family FAMILY` on CartPole-v1: real steps collected in rounds (at random first, then with the agent), the
family's `tiny` preset fitted to them, Stable-Baselines3's PPO trained only inside the dream, then 20 episodes in the
real environment without exploration. The agent sees the decoded observation; where nothing decodes, the model's latent,
and in reality the filter's."""


def shown(value: float) -> str:
    """A return, bold where the goal is reached."""
    return f"**{value:.1f}**" if value >= GOAL else f"{value:.1f}"


def written(options: dict[str, str]) -> str:
    """Options as they are typed."""
    return " ".join(f"{name} {value}" for name, value in options.items())


def view(family: str) -> str:
    """What the agent sees of this family's dreams."""
    model = make_model(family, "tiny", Composite(observation=Unbounded(4)), OneHot(2))
    return "decoded" if "decode" in model.capabilities else "latent"


def table(runs: dict[str, list[dict[str, Any]]]) -> str:
    """The page."""
    lines = []
    for family, found in runs.items():
        returns = [run["real_return"] for run in found]
        seconds = statistics.median(run["seconds"] for run in found)
        cells = [
            family,
            view(family),
            f"{found[0]['real_steps']:,}",
            f"{found[0]['dream_steps']:,}",
            " / ".join(shown(value) for value in returns),
            shown(statistics.median(returns)),
            f"{seconds:.0f} s",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    short = [
        f"{family} {len(SEEDS) - len(runs.get(family, []))}" for family in FAMILIES if len(runs.get(family, [])) < 3
    ]
    if short:
        lines += ["", f"Runs of {len(SEEDS)} seeds that are still missing: {', '.join(short)}."]
    lines += ["", METHOD, "", f"Options that differ from the demo's defaults: `{written(COMMON)}`."]
    lines += [f"{family}: `{written(given)}`." for family, given in OPTIONS.items() if family in runs]
    lines += [
        "",
        "The wall times are of a shared machine with 2 cores, one thread a run, with other work beside some of them.",
        "",
        "Command: `python -m benchmarks.dream_agents` (numbers in `dream_agents.json`).",
        "",
    ]
    return INTRODUCTION + "\n".join(lines)


def main() -> None:
    """Run what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=list(MODELS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--runs", type=Path, default=Path("runs/dream-agents"))
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    parser.add_argument(
        "--report", action="store_true", help="run nothing; write the table with what --runs holds by now"
    )
    arguments = parser.parse_args()
    runs: dict[str, list[dict[str, Any]]] = {}
    page = arguments.out / "dream_agents.json"
    if arguments.report and page.is_file():
        runs |= json.loads(page.read_text())["runs"]
    for family in arguments.families:
        kept = sorted((arguments.runs / family).glob("[0-9].json")) if arguments.report else []
        runs |= {family: [json.loads(file.read_text()) for file in kept]} if kept else {}
    for seed in [] if arguments.report else arguments.seeds:
        for family in arguments.families:
            options = {"--family": family, **COMMON, **OPTIONS.get(family, {})}
            found = run_demo(
                seed,
                arguments.runs / family,
                *(word for name, value in options.items() for word in (name, *value.split())),
            )
            runs.setdefault(family, []).append(found)
            print(f"{family} seed {seed}: {found['real_return']} in {found['seconds']} s", flush=True)
    for found in runs.values():
        for run in found:
            run.pop("files", None)
    arguments.out.mkdir(parents=True, exist_ok=True)
    facts = {"torch": torch.__version__, "cores": os.cpu_count(), "common": COMMON, "options": OPTIONS, "runs": runs}
    page.write_text(json.dumps(facts, indent=2) + "\n")
    (arguments.out / "dream_agents.md").write_text(table(runs))
    draw("dream_agents", arguments.out)


if __name__ == "__main__":
    main()
