"""A truth report of every family, written by the command: small models, some seconds of a CPU each.

Run it with ``python -m benchmarks.reports``; it collects, trains and reports in ``runs/reports`` what is not there yet,
and writes ``docs/benchmarks/reports.md`` and the reports beside it.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import torch

from wmcomponents.cli import main as wmc

SCREEN = "MinAtar/Breakout-v1 --from-pixels --image-size 16"
DATA = {
    "cartpole": "CartPole-v1 --steps 8000 --repeat-probability 0.3",
    "pendulum": "Pendulum-v1 --steps 10000 --repeat-probability 0.5",
    "breakout": f"{SCREEN} --steps 10000 --repeat-probability 0.5",
    "rooms": "wmcomponents/TwoRooms-v0 --image-size 16 --steps 2000 --repeat-probability 0.9",
    "breakout-short": f"{SCREEN} --steps 2000 --repeat-probability 0.5",
}
"""What models are fitted to, by name: the arguments of wmc collect."""
HELD_OUT = "--steps 3000 --seed 1"
PIXELS = "--horizon 12 --sequences 48 --samples 2 --return-steps 15 --policies 6 --episodes 3 --generations 2"
"""Of reports of models of images: a dream of them is dear."""
FILM = "--horizon 8 --sequences 24 --samples 1 --film-steps 16"
"""Of worlds of a film's tokens, which draw every frame in rounds."""
FILM_STEPS = "tokenizer=100 dynamics=100 --sequence-length 16 --batch-size 8 --changes patch=4 rounds=4"
SHORT = "--horizon 5 --sequences 8 --samples 2 --return-steps 5 --policies 4 --episodes 2 --generations 2"
"""Of a model whose dreams are dearest: little is looked at."""

FEWER = "--sequences 48 --samples 2 --policies 6 --episodes 3 --generations 2"
"""Where a step of the dream reads a KV cache."""


class Reported(NamedTuple):
    """How a family is fitted.

    Attributes:
        data: name of the data.
        steps: updates; empty where a model of another benchmark is taken.
        report: more arguments of wmc report.
        model: folder of that other model, below the runs.
        card: its page below docs/explanation/models.
    """

    data: str
    steps: str
    card: str
    report: str = "--sequences 96"
    model: str = ""


FAMILIES = {
    "DINOWM": Reported("breakout", "200", "dino_wm", PIXELS),
    "JEPAWM": Reported("breakout", "200", "jepa_wm", PIXELS),
    "VJEPA2AC": Reported("breakout", "200", "vjepa2_ac", PIXELS),
    "WorldModels": Reported("cartpole", "1000", "world_models"),
    "PlaNet": Reported("pendulum", "500", "planet"),
    "DreamerV1": Reported("pendulum", "500", "dreamer_v1"),
    "DreamerV2": Reported("cartpole", "500", "dreamer_v2"),
    "DreamerV3": Reported("cartpole", "600", "dreamer_v3"),
    "DreamerV3Preprint": Reported("cartpole", "500", "dreamer_v3_preprint"),
    "JEPA": Reported("pendulum", "600", "jepa"),
    "LeWM": Reported("pendulum", "150", "lewm"),
    "PLDM": Reported("pendulum", "300", "pldm"),
    "TDMPC2": Reported("pendulum", "600", "tdmpc2"),
    "MuZero": Reported("cartpole", "500", "muzero"),
    "EfficientZero": Reported("cartpole", "400", "efficientzero"),
    "LWM": Reported("breakout", "tokenizer=40 transformer=16", "lwm", SHORT),
    "GAIA1": Reported("breakout", "tokenizer=40 transformer=16", "gaia1", FILM),
    "IRIS": Reported("breakout", "", "iris", PIXELS, "pixels/IRIS-MinAtar-Breakout-v1-0/model"),
    "DeltaIRIS": Reported("breakout", "tokenizer=300 transformer=200", "delta_iris", PIXELS),
    "Genie": Reported("breakout", f"{FILM_STEPS} action_patch=4".replace("dynamics=100", "dynamics=60"), "genie", FILM),
    "GenieRedux": Reported("breakout", FILM_STEPS.replace("100", "25"), "genie", FILM),
    "GenieReduxG": Reported("breakout", FILM_STEPS, "genie", FILM),
    "STORM": Reported("cartpole", "600", "storm", FEWER),
    "Oasis": Reported(
        "breakout",
        "autoencoder=60 network=16 --sequence-length 8 --batch-size 8",
        "oasis",
        f"{SHORT} --film-steps 8".replace("--samples 2", "--samples 1"),
    ),
    "AVID": Reported(
        "breakout",
        "base=8 adapter=8 --sequence-length 8 --batch-size 8 --changes frames=2 steps=2",
        "avid",
        f"{SHORT} --film-steps 8".replace("--samples 2", "--samples 1"),
    ),
    "CausVid": Reported(
        "breakout",
        "teacher=8 ode=4 distribution=2 --sequence-length 8 --batch-size 8 --changes frames=4 solver_steps=4",
        "causvid",
        f"{SHORT} --film-steps 8".replace("--samples 2", "--samples 1"),
    ),
    "OpenSora": Reported(
        "breakout-short",
        "autoencoder=30 network=8 --sequence-length 8 --batch-size 4 --changes frames=4 steps=2",
        "open_sora",
        f"{SHORT} --film-steps 8".replace("--samples 2", "--samples 1"),
    ),
    "DiffusionForcing": Reported(
        "breakout",
        "16 --sequence-length 8 --batch-size 8 --changes frames=4 steps=2",
        "diffusion_forcing",
        f"{SHORT} --film-steps 8".replace("--samples 2", "--samples 1"),
    ),
    "NWM": Reported(
        "rooms",
        "autoencoder=16 network=16 --sequence-length 8 --batch-size 4 --changes context=2",
        "nwm",
        f"{SHORT} --film-steps 8".replace("--samples 2", "--samples 1"),
    ),
    "Diamond": Reported("breakout", "", "diamond", PIXELS, "pixels/Diamond-MinAtar-Breakout-v1-0/model"),
}

INTRODUCTION = """\
# A report of every family

What [`wmc report`](../how-to/read-the-report.md) says of one small model of each family, after seconds or minutes of
training on random play. These models are small and barely trained: the reports show what can be told of a model, not
which family is better.

| family | on | first words of its report | trusted steps | rank correlation | exploitation gap |
|---|---|---|---|---|---|
"""
METHOD = """
*Trusted steps*: up to which imagined step the model is better than copying the last observation and than the data's
mean, by the lower end of the 95 % band; of models without a decoder through a probe. *Rank correlation*: of the returns
of some policies in the dream and in reality. *Exploitation gap*: what the winner of a search in the dream earns there
and not in reality.

Side by side: {together}.

Command: `python -m benchmarks.reports`, which runs `wmc collect`, `wmc train`, `wmc report` and `wmc compare` and
nothing else. IRIS and DIAMOND are the models of [Learning from pixels](pixels.md).
"""


def run(words: str) -> None:
    """One command; it must succeed.

    Raises:
        SystemExit: with the command's exit code, if it does not.
    """
    print(f"wmc {words}", flush=True)
    code = wmc(words.split())
    if code:
        raise SystemExit(code)


def report(family: str, how: Reported, runs: Path) -> Path:
    """Collect, train and report what is not there yet; the folder of the report."""
    place, data = runs / "reports", runs / "reports" / "data"
    out = place / family / "report"
    if (out / "report.json").is_file():
        return out
    for name, more in ((how.data, ""), (f"{how.data}-test", f" {HELD_OUT}")):
        if not (data / name).is_dir():
            run(f"collect --env {DATA[how.data]}{more} --out {data / name}")
    model = runs / how.model if how.model else place / family / "model"
    if how.steps and not model.is_dir():
        run(f"train --family {family} --data {data / how.data} --out {place / family} --steps {how.steps}")
    run(f"report {model} --data {data / f'{how.data}-test'} --out {out} {how.report}")
    return out


def line(family: str, how: Reported, found: dict[str, Any]) -> str:
    """The family's row of the page."""
    returns = found["returns"]
    ranked = returns.get("rank_correlation", {}).get("value")
    gap = returns.get("exploitation", {}).get("gap")
    cells = [
        f"[{family}](reports/{family}.html), [card](../explanation/models/{how.card}.md)",
        found["data"]["env"],
        found["headline"]["says"],
        *("-" if value is None else f"{value:.3g}" for value in (found["headline"]["trusted_steps"], ranked, gap)),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Report every family and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    by_data: dict[str, list[Path]] = {}
    kept = arguments.out / "reports"
    kept.mkdir(parents=True, exist_ok=True)
    for family in arguments.families:
        how = FAMILIES[family]
        out = report(family, how, arguments.runs)
        for kind in ("html", "json"):
            shutil.copy(out / f"report.{kind}", kept / f"{family}.{kind}")
        by_data.setdefault(how.data, []).append(out)
    for data, outs in by_data.items():
        if len(outs) > 1:
            run(f"compare {' '.join(map(str, outs))} --out {kept / f'{data}.html'}")
    (arguments.out / "reports.md").write_text(page(kept))


def page(kept: Path) -> str:
    """The page of all reports that are kept in a folder, those of this run and of earlier ones."""
    rows = [
        line(family, how, json.loads((kept / f"{family}.json").read_text()))
        for family, how in FAMILIES.items()
        if (kept / f"{family}.json").is_file()
    ]
    names = dict.fromkeys(how.data for how in FAMILIES.values())
    together = [f"[{data}](reports/{data}.html)" for data in names if (kept / f"{data}.html").is_file()]
    return INTRODUCTION + "\n".join(rows) + "\n" + METHOD.format(together=", ".join(together))


if __name__ == "__main__":
    main()
