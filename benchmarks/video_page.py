"""The page of worlds of video diffusion."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.film_pages import copy_films, film_lines, films_and_words, name_of
from benchmarks.fitting import REAL_STEPS, REPEAT_PROBABILITY
from benchmarks.openings import figure
from benchmarks.pixel_page import FAMILIES as OTHERS
from benchmarks.pixel_page import cells_of, row_of_fit
from benchmarks.pixel_worlds import BURN_IN, DREAMS, HELD_OUT_SEQUENCES, KS, MINATAR, run_name
from benchmarks.playable_page import latest, row_of
from benchmarks.plots import draw
from benchmarks.video_adapters import BASE_UPDATES, LABELLED, UPDATES, WAYS
from benchmarks.video_variants import VARIANTS
from benchmarks.video_worlds import (
    CONTEXTS,
    DRIFT_ROWS,
    FAMILIES,
    FITS,
    GAMES,
    SOLVER_STEPS,
    SWEPT_SEQUENCES,
)

STEPS = " / ".join(map(str, KS))
NAMES = {**OTHERS, **FAMILIES}

INTRODUCTION = f"""\
# Worlds of video diffusion: what they learn

What worlds of video diffusion make of a game in at most 40 minutes of one CPU thread, in small presets and from
{REAL_STEPS:,} real steps at random; beside them DIAMOND, which was given the same data. On MinAtar Diffusion Forcing
and Oasis predict the frame, not v as published: in Diffusion Forcing that alone makes paddles and balls out of smears
([below](#what-the-network-predicts)). It is then about as good as DIAMOND there, in nearly four times its CPU time: its
dream in the film follows reality for 25 steps, points and all; one step of sampling is enough. Oasis, in latents,
follows it for 11. CausVid, which predicts the velocity, as published, has not learned much by then; its student draws
a frame in a thirtieth of its teacher's time and no worse. In Pong Diffusion Forcing comes nearest to DIAMOND: the
paddle goes where it is sent, and no ball is dreamt.

{figure("video", "Squared error of what moves, by the CPU time of a dreamt frame")}

Each point is a number of sampling steps, the fewest on the left.
"""

METHOD = f"""\
## How it was measured

The random policy keeps its last action with probability {REPEAT_PROBABILITY}. Each fit is held against
{HELD_OUT_SEQUENCES} sequences of other episodes, as in [worlds of tokens and pixels](pixels.md), where *PSNR*, *moving
parts*, *reward* and *end* are explained: {BURN_IN} real frames are seen, {DREAMS} dreams follow each. Numbers of
sampling steps are held against {SWEPT_SEQUENCES} sequences, a dream each; the time of a frame is the CPU's, of one
thread, for dreams that run together, over their number.

- **Long dreams** begin in {DRIFT_ROWS} unseen images, under random actions. *Nearest* is the PSNR of a frame with the
  nearest real frame that the model was fitted to, *motion* the share of pixels that change from frame to frame, *whole*
  the share of frames that show one paddle and one ball; *real* is the same of real frames of other episodes.
- **AVID**: the video model saw {REAL_STEPS:,} steps without their actions ({BASE_UPDATES:,} updates); the actions of
  {LABELLED:,} further steps are known. Whatever learns from those gets {UPDATES:,} updates. *Tuned* begins with the
  video model's weights; what the actions' embedding adds counts for nothing at first.
"""

OF_VARIANTS = f"""\
Diffusion Forcing on {MINATAR}, one thing changed at a time. Beside it what Nano World Models (Huang et al., 2026;
their page on training at 50394e4) finds of the same choice, with a transformer of 159 million weights in latents of
robots' films after 50,000 updates.
"""

OF_TEACHERS = f"""\
- **CausVid's teacher** sees whole films. As a world it draws the window anew for each frame, by {SOLVER_STEPS} of
  Euler's steps, and known frames are put back before each of them.
"""


def report(runs: Path, out: Path) -> None:
    """Write the page, its figure and its films."""
    page = out / "video.json"
    kept: dict[str, Any] = {"fits": [], "adapters": [], "variants": [], "steps": {}, "drift": {}}
    if page.is_file():
        kept |= json.loads(page.read_text())
    names = [run_name(family, env_id, seed) for family, env_id in FITS for seed in range(10)]
    here = [json.loads(file.read_text()) for name in names if (file := runs / f"{name}.json").is_file()]
    copy_films(here, runs, out)
    adapters = found_in(runs, [f"AVID-{way}" for way in WAYS])
    variants = found_in(runs, [f"variant-{name}" for name in VARIANTS])
    others = json.loads((out / "pixels.json").read_text())["fits"] if (out / "pixels.json").is_file() else []
    facts: dict[str, Any] = {
        "torch": torch.__version__,
        "k": KS,
        "fits": latest([*kept["fits"], *here], "family", "env", "seed"),
        "beside": [one for one in others if one["family"] == "Diamond"],
        "adapters": latest([*kept["adapters"], *adapters], "way", "seed"),
        "variants": latest([*kept["variants"], *variants], "variant", "seed"),
    }
    for what in ("steps", "drift"):
        found = {name: file for name in names if (file := runs / f"{name}-{what}.json").is_file()}
        facts[what] = kept[what] | {name: json.loads(file.read_text()) for name, file in found.items()}
    page.write_text(json.dumps(facts, indent=1) + "\n")
    write(out)


def found_in(runs: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """What was found under names, of each seed.

    Args:
        runs: folder of the runs.
        names: without their seeds.
    """
    return [json.loads(file.read_text()) for name in names for file in sorted(runs.glob(f"{name}-[0-9].json"))]


def write(out: Path) -> None:
    """The page once more, from ``video.json`` and the films in ``media``."""
    facts = json.loads((out / "video.json").read_text())
    (out / "video.md").write_text(table(facts, *films_and_words(facts["fits"], out)))
    draw("video", out)


def table(facts: Mapping[str, Any], films: Mapping[str, str], shown: Mapping[str, str]) -> str:
    """The page.

    Args:
        facts: what was measured.
        films: file of each fit's film, by the fit's name.
        shown: what a film was seen to show, by file.
    """
    lines = [INTRODUCTION, *beside_diamond(facts), *by_steps(facts["steps"]), *drifting(facts["drift"])]
    lines += [*varied(facts), *adapters(facts["adapters"])]
    lines += [*moving_pictures(facts["fits"], films, shown), METHOD]
    lines += [OF_TEACHERS] if any("teacher" in ways for ways in facts["steps"].values()) else []
    lines.append("```bash")
    lines += [command(one) for one in facts["fits"]]
    lines += ["python -m benchmarks.video --families AVID"] if facts["adapters"] else []
    lines += ["python -m benchmarks.video --families variants"] if facts["variants"] else []
    return "\n".join([*lines, "```", "", f"Numbers: [video.json](video.json). Torch {facts['torch']}.", ""])


def beside_diamond(facts: Mapping[str, Any]) -> list[str]:
    """Every world beside DIAMOND, game by game."""
    lines = []
    for env_id, world in GAMES.items():
        own = [one for one in facts["fits"] if one["env"] == env_id]
        if not own:
            continue
        lines += [f"## {env_id}", "", f"Images: {world.says}.", ""]
        head = ["world", "seed", "parameters", "updates", "wall time (CPU)"]
        head += [f"PSNR, k = {STEPS}", f"moving parts, k = {STEPS}", "reward", "end"]
        lines += [*row_of(head), "|---|" + "---:|" * (len(head) - 1)]
        beside = [one for one in facts["beside"] if one["env"] == env_id]
        lines += [row_of_fit(one, NAMES[one["family"]]) for one in [*own, *beside]]
        for who in ("copy", "mean"):
            psnr, moving = own[0]["psnr"][who], own[0]["errors"]["moving parts"][who]
            figures = [" / ".join(f"{x:.1f}" for x in psnr), " / ".join(f"{x:.3f}" for x in moving)]
            lines += row_of([f"*{who}*", *[""] * 4, *figures, "", ""])
        lines.append("")
    return lines


def by_steps(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Quality and time of a frame, by the steps of the sampler."""
    if not found:
        return []
    head = ["world", "drawn in", f"PSNR, k = {STEPS}", f"moving parts, k = {STEPS}", "ms of a frame, 1 dream", "16"]
    lines = [*row_of(head), "|---|---|" + "---:|" * (len(head) - 2)]
    for name, ways in found.items():
        family = name.partition("-")[0]
        for way, one in ways.items():
            errors = [" / ".join(cells_of(one["psnr"], ".1f", max))]
            errors.append(" / ".join(cells_of(one["errors"]["moving parts"], ".3f", min)))
            drawn = "its teacher" if way == "teacher" else ("1 step" if way == "1 steps" else way)
            lines += row_of([NAMES[family], drawn, *errors, *(f"{one['ms'][rows]:.3g}" for rows in ("1", "16"))])
    return ["## How many steps", "", f"On {MINATAR}.", "", *lines, ""]


def drifting(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What is left of long dreams."""
    lines: list[str] = []
    for name, contexts in found.items():
        for context, one in contexts.items():
            if not lines:
                head = ["world", "past frames are", "figure", *(f"step {k}" for k in one["at"]), "real"]
                lines += [*row_of(head), "|---|---|---|" + "---:|" * (len(head) - 3)]
            told = [NAMES[name.partition("-")[0]], CONTEXTS[context]]
            lines += row_of([*told, "nearest, dB", *(f"{x:.1f}" for x in one["nearest"])])
            lines += row_of(["", "", "motion", *(f"{x:.1%}" for x in one["motion"])])
            lines += row_of(["", "", "whole", *(f"{x:.0%}" for x in one["whole"])])
    return ["## Long dreams", "", f"On {MINATAR}.", "", *lines, ""] if lines else []


def varied(facts: Mapping[str, Any]) -> list[str]:
    """Diffusion Forcing, one thing of its process changed at a time."""
    if not facts["variants"]:
        return []
    head = ["predicted", "seed", "updates", "CPU", f"PSNR, k = {STEPS}", f"moving parts, k = {STEPS}"]
    head += ["NanoWM's PSNR on RT-1"]
    lines = [*row_of(head), "|---|" + "---:|" * (len(head) - 1)]
    order = list(VARIANTS)
    for one in sorted(facts["variants"], key=lambda one: (order.index(one["variant"]), one["seed"])):
        variant = VARIANTS[one["variant"]]
        cells = [variant.told, str(one["seed"]), f"{one['updates_taken']:,}", f"{one['cpu_seconds'] / 60:.0f} min"]
        cells += [" / ".join(cells_of(one["psnr"], ".1f", max))]
        cells += [" / ".join(cells_of(one["errors"]["moving parts"], ".3f", min))]
        cells += ["" if variant.published is None else f"{variant.published:.1f}"]
        lines += row_of(cells)
    return ["## What the network predicts", "", OF_VARIANTS, *lines, ""]


def adapters(found: list[dict[str, Any]]) -> list[str]:
    """What a frozen video model is worth."""
    if not found:
        return []
    head = ["the video model", "seed", "trained weights", "CPU"]
    head += [f"PSNR, k = {STEPS}", f"moving parts, k = {STEPS}", "reward", "end"]
    lines = [*row_of(head), "|---|" + "---:|" * (len(head) - 1)]
    order = list(WAYS)
    for one in sorted(found, key=lambda one: (order.index(one["way"]), one["seed"])):
        cells = [WAYS[one["way"]], str(one["seed"]), f"{one['trained']:,}", f"{one['cpu_seconds'] / 60:.0f} min"]
        cells += [" / ".join(cells_of(one["psnr"], ".1f", max))]
        cells += [" / ".join(cells_of(one["errors"]["moving parts"], ".3f", min))]
        for name in ("reward", "termination"):
            event = one["detections"].get(name, {}) if one["trained"] else {}
            shares = (event.get("precision"), event.get("recall"))
            cells.append(" / ".join("-" if share is None else f"{share:.2f}" for share in shares))
        lines += row_of(cells)
    said = f"What learns the actions from {LABELLED:,} steps of {MINATAR} in which they are known."
    return ["## A video model that is given actions", "", said, "", *lines, ""]


def moving_pictures(fits: list[dict[str, Any]], films: Mapping[str, str], shown: Mapping[str, str]) -> list[str]:
    """A film of each fit."""
    lines = ["## Films", "", "Reality is on the left, and the dream on the right: same start, same actions.", ""]
    for one in fits:
        name = f"{NAMES[one['family']]} on {one['env']}, seed {one['seed']}"
        lines += film_lines(films[name_of(one)], name, "", shown)
    return lines if fits else []


def command(one: Mapping[str, Any]) -> str:
    """What was typed for a fit."""
    return f"python -m benchmarks.video --families {one['family']} --envs {one['env']} --seeds {one['seed']}"
