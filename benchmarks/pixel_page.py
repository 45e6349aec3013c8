"""The page of what worlds of tokens and pixels learn."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.film_pages import copy_films, film_lines, films_and_words, name_of
from benchmarks.fitting import REAL_STEPS, REPEAT_PROBABILITY
from benchmarks.openings import figure
from benchmarks.pixel_worlds import BURN_IN, DREAMS, FAMILIES, FITS, HELD_OUT_SEQUENCES, KS, WORLDS
from benchmarks.plots import draw

INTRODUCTION = f"""\
# Worlds of tokens and pixels: what they learn

What IRIS, Delta-IRIS and DIAMOND make of a game in a quarter or half an hour on one CPU thread, in their small presets
and from {REAL_STEPS:,} real steps at random. Of a 16x16 game they make a world that holds for some steps, DIAMOND's the
longest; of Atari's Pong none makes one to play in. The papers train far longer, on GPUs.

What agents earn in the real game that were trained in these dreams alone: [agents trained only in dreams of a
game](dream_only.md).

{figure("pixels", "Squared error of what moves by imagined steps, of each family and two baselines")}

*copy* repeats the last frame seen, *mean* shows the mean of all frames; a line is a seed.
"""

METHOD = f"""\
## How it was measured

The random policy keeps its last action with probability {REPEAT_PROBABILITY}. Each fit is held against
{HELD_OUT_SEQUENCES} sequences of other episodes: the filter sees {BURN_IN} real frames, the model dreams k steps with
the real actions, {DREAMS} times, and every dream is compared with what really followed.

- **PSNR** in dB, of whole frames; higher is better.
- **moving parts**: mean squared error, of values in [0, 1], of those pixels that changed since the last frame seen. To
  copy that frame is wrong in all of them. Lower is better.
- **reward**, **end**: precision / recall of the rewards (not zero) and terminations in all {KS[-1]} steps. *rate*
  is the precision of guessing, with the number of events behind it.
- **Bold**: better than both baselines.
- Wall time is of one thread on a machine that did other work at the same time; CPU time is what the fit itself took,
  over all resumes. Both are of the fit alone, without collecting and measuring.
"""


def report(runs: Path, out: Path) -> None:
    """Write the page, its figures and its films."""
    fits = [json.loads(file.read_text()) for file in sorted(runs.glob("*-[0-9].json"))]
    facts = {"torch": torch.__version__, "cores": os.cpu_count(), "k": KS, "burn_in": BURN_IN, "fits": fits}
    copy_films(fits, runs, out)
    (out / "pixels.json").write_text(json.dumps(facts, indent=1) + "\n")
    write(out)


def write(out: Path) -> None:
    """The page once more, from ``pixels.json`` and the films in ``media``."""
    facts = json.loads((out / "pixels.json").read_text())
    (out / "pixels.md").write_text(table(facts, *films_and_words(facts["fits"], out)))
    draw("pixels", out)


def table(facts: Mapping[str, Any], films: Mapping[str, str], shown: Mapping[str, str]) -> str:
    """The page.

    Args:
        facts: what was measured.
        films: file of each fit's film, by the fit's name.
        shown: what a film was seen to show, by file. Nobody has looked at a new one, so that it has no entry.
    """
    fits, lines = facts["fits"], [INTRODUCTION]
    for env_id, world in WORLDS.items():
        here = [one for family in FAMILIES for one in fits if (one["family"], one["env"]) == (family, env_id)]
        if not here:
            continue
        lines += [f"## {env_id}", "", f"Images: {world.says}. Preset `{world.preset}`.", ""]
        head = ["family", "seed", "parameters", "updates", "wall time (CPU)"]
        steps = " / ".join(map(str, KS))
        head += [f"PSNR, k = {steps}", f"moving parts, k = {steps}", "reward", "end"]
        lines += ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
        lines += [row_of_fit(one, FAMILIES[one["family"]]) for one in here]
        for seed in dict.fromkeys(one["seed"] for one in here):
            first = next(one for one in here if one["seed"] == seed)
            lines += [_baseline(first, who) for who in ("copy", "mean")]
        lines.append("")
        lines += ["Reality is on the left, and the dream on the right: from the same start, with the same actions.", ""]
        for one in here:
            name = f"{FAMILIES[one['family']]}, seed {one['seed']}"
            lines += film_lines(films[name_of(one)], name, f" on {env_id}", shown)
    lines.append(METHOD)
    lines += ["## Commands", "", "```bash"]
    lines += [command(one) for one in fits]
    lines += ["```", "", f"Numbers of every fit: [pixels.json](pixels.json). Torch {facts['torch']}.", ""]
    return "\n".join(lines)


def command(one: dict[str, Any]) -> str:
    """What was typed for a fit."""
    words = f"python -m benchmarks.pixels --families {one['family']} --envs {one['env']} --seeds {one['seed']}"
    return words if one["updates"] == FITS[one["family"], one["env"]].updates else f"{words} --updates {one['updates']}"


def row_of_fit(one: Mapping[str, Any], name: str) -> str:
    """A fit in a table, under the name of its family."""
    moving, psnr = one["errors"]["moving parts"], one["psnr"]
    cells = [name, str(one["seed"]), f"{one['parameters']:,}", f"{one['updates_taken']:,}"]
    cells.append(f"{one['seconds'] / 60:.1f} min ({one['cpu_seconds'] / 60:.1f})")
    cells += [" / ".join(cells_of(psnr, ".1f", max)), " / ".join(cells_of(moving, ".3f", min))]
    for name in ("reward", "termination"):
        found = one["detections"].get(name, {})
        shares = (found.get("precision"), found.get("recall"))
        cells.append(" / ".join("-" if value is None else f"{value:.2f}" for value in shares))
    return "| " + " | ".join(cells) + " |"


def cells_of(found: Mapping[str, Any], digits: str, best: Callable[..., float]) -> list[str]:
    """The model's figures, bold where no baseline is as good."""
    rows = zip(found["model"], found["copy"], found["mean"], strict=True)
    return [
        f"**{model:{digits}}**" if best(model, copy, mean) not in (copy, mean) else f"{model:{digits}}"
        for model, copy, mean in rows
    ]


def _baseline(one: dict[str, Any], who: str) -> str:
    moving, psnr, found = one["errors"]["moving parts"], one["psnr"], one["detections"]
    cells = [f"*{who}*", str(one["seed"]), "", "", "", " / ".join(f"{value:.1f}" for value in psnr[who])]
    cells.append(" / ".join(f"{value:.3f}" for value in moving[who]))
    rates = [f"rate {found[name]['rate']:.3f} ({found[name]['real']:.0f})" for name in ("reward", "termination")]
    cells += rates if who == "mean" else ["", ""]
    return "| " + " | ".join(cells) + " |"
