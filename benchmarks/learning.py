"""How well every family learns real environments: held-out k-step error after a short fit on random data.

Run it with ``python -m benchmarks.learning``; it writes ``docs/benchmarks/learning.json`` and ``learning.md``. Finished
fits are kept in ``runs/learning`` and not repeated.
"""

import argparse
import json
import os
import statistics
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from tensordict import TensorDictBase

from benchmarks.fitting import HELD_OUT_STEPS, REAL_STEPS, REPEAT_PROBABILITY, Fit, at_horizons, data
from benchmarks.measuring import digits
from benchmarks.openings import figure
from benchmarks.plots import draw
from wmcomponents.data import action_spec, make_env, observation_spec
from wmcomponents.evaluation import fit_probe, horizon_errors
from wmcomponents.models import MODELS, make_model
from wmcomponents.models.loading import load
from wmcomponents.training import ConstantThenDecay, Trainer, seed_everything

BURN_IN, KS, HELD_OUT_SEQUENCES, DREAMS = 5, (1, 5, 10, 15), 1024, 16
FAMILIES = (
    "WorldModels", "PlaNet", "DreamerV1", "DreamerV2", "DreamerV3", "TDMPC2", "MuZero", "EfficientZero",
    "STORM",
)  # fmt: skip
ENVS = {"CartPole-v1": (0, 1, 2), "Pendulum-v1": (0, 1, 2), "MinAtar/Breakout-v1": (0,)}


BOARDS = Fit(updates=1200, changes={"norm": "keras_layer", "kl_scale": 0.1})
FITS: dict[tuple[str, str], Fit] = {
    ("DreamerV1", "MinAtar/Breakout-v1"): BOARDS,
    ("PlaNet", "MinAtar/Breakout-v1"): BOARDS,
    ("MuZero", "MinAtar/Breakout-v1"): Fit(updates=550),  # some 0.5 s an update: unrolled convolutions
    ("EfficientZero", "MinAtar/Breakout-v1"): Fit(updates=800),
    ("WorldModels", "MinAtar/Breakout-v1"): Fit(updates=2000, changes={"vision_steps": 800}),
}
"""Fits that differ from the default, by family and environment; an empty family stands for all."""


INTRODUCTION = f"""\
# How well every family learns

How far ahead a small model can be trusted after some minutes on a CPU: where its curve lies below both baselines, it
knows more than the last observation and the average do.

{figure("learning", "Error of the observation by imagined steps, of every family and two baselines")}

*copy* repeats the last thing observed, *mean* predicts the data's mean. The lower, the better; the axes are
logarithmic.
"""

METHOD = f"""\
## How it was measured

Each family's `tiny` preset, fitted once for each seed on {REAL_STEPS:,} real steps of a random policy that keeps its
last action with probability {REPEAT_PROBABILITY}. Then {HELD_OUT_SEQUENCES:,} held-out sequences of other episodes:
the filter sees {BURN_IN} real observations, the model dreams k steps with the real actions {DREAMS} times, and what the
dreams forecast together (their mean; of boards, what most of them show) is held against what really followed. Medians
over the seeds.

- *copy* of a termination: the episode never ends. *mean* of a board: the most common value of every cell; of ends,
  their rate.
- Vectors: squared error over the variance. Boards: share of cells shown wrong. Reward: mean absolute error.
  Termination: Brier score.
- Families without a decoder are read through a probe: a small network fitted, on the training data, to read
  observations off the states of the filter and of dreams of up to {KS[-1]} steps.
- **Bold**: better than both baselines.
"""


def how_to(family: str, env_id: str) -> Fit:
    """How a family is fitted there."""
    return FITS.get((family, env_id), FITS.get(("", env_id), Fit()))


def fitted(family: str, env_id: str, seed: int, folder: Path) -> tuple[dict[str, Any], Any]:
    """Seconds and losses of a fit, and the model; fitted now, or by an earlier run."""
    name = f"{family}-{env_id.replace('/', '-')}-{seed}"
    kept, how = folder / f"{name}.fit.json", how_to(family, env_id)
    if kept.is_file():
        return json.loads(kept.read_text()), load(folder / name)
    replay = data(env_id, seed, REAL_STEPS, how.sequence_length, how.batch_size, folder)
    env = make_env(env_id)
    seed_everything(seed)
    model = make_model(family, "tiny", observation_spec(env), action_spec(env), **how.changes)
    begun = time.perf_counter()
    trainer = Trainer(
        model, replay, lr=how.lr, warmup=100, schedule=ConstantThenDecay(how.updates), seed=seed, progress=False
    )
    losses = {key: digits(value, 4) for key, value in trainer.train(how.updates).items()}
    facts = {"seconds": round(time.perf_counter() - begun, 1), "losses": losses}
    model.save_pretrained(folder / name)
    kept.write_text(json.dumps(facts) + "\n")
    return facts, model


def fit(family: str, env_id: str, seed: int, folder: Path) -> dict[str, Any]:
    """Fit one model and hold it against reality, or return what an earlier run found."""
    result = folder / f"{family}-{env_id.replace('/', '-')}-{seed}.json"
    if result.is_file():
        return json.loads(result.read_text())
    how = how_to(family, env_id)
    held_out = data(env_id, seed + 1000, HELD_OUT_STEPS, BURN_IN - 1 + KS[-1], HELD_OUT_SEQUENCES, folder)
    facts, model = fitted(family, env_id, seed, folder)
    probed = model
    if "decode" not in model.capabilities:
        probe_data = data(env_id, seed, REAL_STEPS, how.sequence_length, REAL_STEPS // how.sequence_length, folder)
        probed = fit_probe(model, probe_data.sample(), horizon=KS[-1], seed=seed)
    held_out.set_rng(torch.Generator().manual_seed(seed))
    found = horizon_errors(
        probed,
        cast(TensorDictBase, held_out.sample()),
        burn_in=BURN_IN,
        horizon=KS[-1],
        samples=DREAMS,
        generator=torch.Generator().manual_seed(seed),
        of="forecast",
    )
    made = {
        "family": family,
        "env": env_id,
        "seed": seed,
        "real_steps": REAL_STEPS,
        **asdict(how),
        **facts,
        "parameters": sum(p.numel() for p in model.parameters()),
        "observation_is": "decoded" if probed is model else "probed from the latent",
        "errors": at_horizons({**found.observation, "reward": found.reward, "termination": found.termination}, KS),
        "rows": [found.rows[k - 1] for k in KS],
    }
    result.write_text(json.dumps(made) + "\n")
    return made


def is_constant(errors: dict[str, Any]) -> bool:
    """Whether the data leave nothing to predict: both baselines are without error."""
    return max(errors["copy"]) < 1e-9 and max(errors["mean"]) < 1e-9


def pooled(fits: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """The medians over seeds of one quantity's errors."""
    every = [one["errors"][name] for one in fits if name in one["errors"]]
    medians = {
        who: [statistics.median(errors[who][i] for errors in every) for i in range(len(KS))]
        for who in ("model", "copy", "mean")
    }
    return {"metric": every[0]["metric"], **medians}


def table(fits: list[dict[str, Any]]) -> str:
    """The page."""
    lines = [INTRODUCTION]
    for env_id in ENVS:
        here = [one for one in fits if one["env"] == env_id]
        if not here:
            continue
        lines += [f"## {env_id}", ""]
        for name in dict.fromkeys(key for one in here for key in one["errors"]):
            members = {family: [one for one in here if one["family"] == family] for family in FAMILIES}
            members = {
                family: found for family, found in members.items() if any(name in one["errors"] for one in found)
            }
            base = pooled([one for found in members.values() for one in found], name)
            if is_constant(base):
                lines += [f"**{name}**: nothing to predict, it never changes in these data.", ""]
                continue
            lines += [
                f"**{name}** ({base['metric']})",
                "",
                "| | " + " | ".join(f"k = {k}" for k in KS) + " | updates | wall time | seeds |",
                "|---|" + "---|" * (len(KS) + 3),
            ]
            for family, found in members.items():
                errors = pooled(found, name)["model"]
                cells = []
                for i, error in enumerate(errors):
                    is_better = error < base["copy"][i] and error < base["mean"][i]
                    cells.append(f"**{error:.3g}**" if is_better else f"{error:.3g}")
                probed = (
                    "" if found[0]["observation_is"] == "decoded" or name in ("reward", "termination") else " (probed)"
                )
                seconds = statistics.median(one["seconds"] for one in found)
                lines.append(
                    f"| {family}{probed} | " + " | ".join(cells) + f" | {found[0]['updates']:,} | {seconds:.0f} s "
                    f"| {', '.join(str(one['seed']) for one in found)} |"
                )
            for who in ("copy", "mean"):
                lines.append(f"| *{who}* | " + " | ".join(f"{value:.3g}" for value in base[who]) + " | | | |")
            lines.append("")
    lines += [
        METHOD,
        "The wall times are of a shared machine with 2 cores, one thread each fit.",
        "",
        "Command: `python -m benchmarks.learning` (numbers of every seed in `learning.json`).",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Fit what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=list(MODELS))
    parser.add_argument("--envs", nargs="+", default=list(ENVS), choices=list(ENVS))
    parser.add_argument("--seeds", nargs="+", type=int, help="of those of each environment; all if not given")
    parser.add_argument("--runs", type=Path, default=Path("runs/learning"))
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    parser.add_argument("--no-table", action="store_true", help="fit only")
    parser.add_argument("--report", action="store_true", help="fit nothing; write the table of what was found so far")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for env_id in [] if arguments.report else arguments.envs:
        for seed in [seed for seed in ENVS[env_id] if arguments.seeds is None or seed in arguments.seeds]:
            for family in arguments.families:
                made = fit(family, env_id, seed, arguments.runs)
                short = {name: errors["model"] for name, errors in made["errors"].items()}
                print(f"{family} {env_id} seed {seed}: {made['seconds']} s {short}", flush=True)
    if arguments.no_table:
        return
    page = arguments.out / "learning.json"
    published = json.loads(page.read_text())["fits"] if page.is_file() else []
    here = [json.loads(file.read_text()) for file in sorted(arguments.runs.glob("*-[0-9].json"))]
    known = {(one["family"], one["env"], one["seed"]): one for one in [*published, *here]}  # those of here come last
    fits = [known[name] for name in sorted(known) if name[0] in FAMILIES]
    facts = {"torch": torch.__version__, "cores": os.cpu_count(), "k": KS, "burn_in": BURN_IN, "fits": fits}
    arguments.out.mkdir(parents=True, exist_ok=True)
    page.write_text(json.dumps(facts, indent=1) + "\n")
    (arguments.out / "learning.md").write_text(table(fits))
    draw("learning", arguments.out)


if __name__ == "__main__":
    main()
