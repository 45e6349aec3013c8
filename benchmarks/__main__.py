"""Measure speed, and write the figures as JSON and Markdown: ``python -m benchmarks``."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import (
    dreaming,
    families,
    imagination,
    overhead,
    pixel_speed,
    rssm_observe,
    sequence_sampling,
    update,
)
from benchmarks.measuring import Setup, digits
from benchmarks.plots import draw
from benchmarks.report import TITLES, markdown
from wmcomponents.models import MODELS

ROOT = Path(__file__).resolve().parents[1]


def measure_overhead(setup: Setup) -> list[dict[str, Any]]:
    """:func:`overhead.measure` as rows; each takes so short that many more repeats are cheap."""
    result = overhead.measure(
        repeats=10 * setup.repeats, compiled=setup.compiled, cpu_time=setup.cpu_time, device=setup.device
    )
    rows = []
    for batch, variants in result["table"].items():
        for name, cell in variants.items():
            made = {
                "work": f"one step, B={batch}",
                "config": "tiny",
                "variant": "plain torch loop" if name == "plain" else name,
                "ms": digits(cell["us"] / 1e3, 4),
                "range": [digits(value / 1e3, 4) for value in cell["range"]],
            }
            if name != "plain":
                made |= {"ratio": cell["ratio"], "against": "plain torch loop"}
            if cell["target"]:
                made |= {"goal": cell["target"], "met": cell["ratio"] <= cell["target"]}
            rows.append(made)
    return rows


def measure_sampling(setup: Setup) -> list[dict[str, Any]]:
    """:func:`sequence_sampling.measure` as rows: the goal is a tenth of ``SliceSampler`` in its usual setting."""
    result = sequence_sampling.measure(repeats=2 * setup.repeats, device=setup.device, cpu_time=setup.cpu_time)
    rows = []
    for work in ("index", "sample", "extend_sample"):
        found = result[work]
        for name in ("ours", "crossing", "episodes", "ids"):
            made = {
                "work": work,
                "config": "1M steps",
                "variant": name if name == "ours" else f"SliceSampler, {name}",
                "ms": digits(found[name], 4),
                "range": [digits(value, 4) for value in found["range"][name]],
            }
            if name == "ours":
                made |= {"ratio": found["ratio"]["episodes"], "against": "SliceSampler, episodes"}
                if work == "sample":
                    made |= {"goal": 0.1, "met": made["ratio"] <= 0.1}
            rows.append(made)
    return rows


SECTIONS: dict[str, Callable[[Setup], list[dict[str, Any]]]] = {
    "overhead": measure_overhead,
    "observe": rssm_observe.measure,
    "imagination": imagination.measure,
    "update": update.measure,
    "dreaming": dreaming.measure,
    "sampling": measure_sampling,
}
ONE_THREAD = ("overhead", "sampling")
"""Sections that are measured with one thread whatever is asked for."""

FAMILIES = ["--repeats", "5", "--families", *(name for name in MODELS if name not in pixel_speed.WORLDS)]
PAGES: dict[str, Callable[[list[str]], None]] = {
    "families": lambda common: families.main([*FAMILIES, *common]),
    "pixel_speed": pixel_speed.main,
}
"""Pages of their own, written by modules of their own; worlds of pixels are measured by the latter alone."""


def run(only: list[str], setups: list[Setup], out: Path) -> dict[str, Any]:
    """Measure the sections, merge them into what ``out`` holds, and write both files there."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "speed.json"
    result: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {"sections": {}}
    for name in only:
        for setup in setups:
            print(f"{name} on {setup.device} ...", flush=True)
            torch.compiler.reset()
            settings = setup.describe()
            if name in ONE_THREAD:
                settings["threads"] = 1
            measured = {"settings": settings, "rows": SECTIONS[name](setup)}
            result["sections"].setdefault(name, {})[setup.device] = measured
            write(result, out)
        if "cuda" not in result["sections"][name]:
            result["sections"][name]["cuda"] = {"skipped": "no GPU"}
    write(result, out)
    return result


def write(result: dict[str, Any], out: Path) -> None:
    """The figures as JSON and Markdown."""
    result["sections"] = {name: result["sections"][name] for name in TITLES if name in result["sections"]}
    (out / "speed.json").write_text(json.dumps(result, indent=1) + "\n")
    (out / "speed.md").write_text(markdown(result))
    draw("speed", out)


def main(arguments: list[str] | None = None) -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", choices=[*SECTIONS, *PAGES], default=[*SECTIONS, *PAGES], help="sections, pages"
    )
    parser.add_argument("--repeats", type=int, default=15, help="interleaved repeats; the shortest sections take more")
    parser.add_argument("--threads", type=int, default=0, help="of torch on the CPU; 0: what torch takes by itself")
    parser.add_argument(
        "--cpu-time", action="store_true", help="the process's own time: for one thread, when others run"
    )
    parser.add_argument("--compile", action="store_true", help="measure what is compiled too: half an hour more")
    parser.add_argument("--unrolled", nargs="+", default=[], help="sizes (small, 12M) whose filter is compiled whole")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "docs" / "benchmarks", help="folder of speed.json and speed.md"
    )
    parser.add_argument("--report", action="store_true", help="measure nothing; write speed.md again from speed.json")
    given = parser.parse_args(arguments)
    if given.report:
        write(json.loads((given.out / "speed.json").read_text()), given.out)
        return
    options: dict[str, Any] = {"repeats": given.repeats, "threads": given.threads, "compiled": given.compile}
    options["unrolled"] = tuple(given.unrolled)
    setups = [Setup(cpu_time=given.cpu_time, **options)]
    if torch.cuda.is_available():
        setups.append(Setup(device="cuda", **options))
    sections = [name for name in given.only if name in SECTIONS]
    if sections:
        run(sections, setups, given.out)
        print(f"written: {given.out / 'speed.json'}, {given.out / 'speed.md'}")
    for name in given.only:
        if name in PAGES:
            PAGES[name](["--out", str(given.out), *["--cpu-time"] * given.cpu_time])


if __name__ == "__main__":
    main()
