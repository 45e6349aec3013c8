"""The page of worlds that are played."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.dream_only_page import is_better, standard_error
from benchmarks.film_pages import copy_films, film_lines, films_and_words, name_of
from benchmarks.fitting import REAL_STEPS, REPEAT_PROBABILITY
from benchmarks.pixel_page import FAMILIES as OTHERS
from benchmarks.pixel_worlds import BURN_IN, HELD_OUT_SEQUENCES, KS, MINATAR
from benchmarks.playable_worlds import FAMILIES, GAMES, LABELLED, PLAY_STEPS, PLAYED

STEPS = " / ".join(map(str, KS))

INTRODUCTION = f"""\
# Worlds that are played, learned from films

Can a game be played that was learned from films alone? Genie is fitted to {REAL_STEPS:,} frames of random play without
a single action; its codes are compared with the actions that were taken afterwards.
"""

METHOD = f"""\
## How it was measured

The random policy keeps its last action with probability {REPEAT_PROBABILITY}. All figures are of
{HELD_OUT_SEQUENCES} sequences of other episodes.

- **tokenizer**: PSNR in dB of what the tokens keep of a frame.
- **delta-PSNR**: PSNR of the fourth dreamt frame behind one real one, under the actions that were taken less under
  random ones, with the same noise, and its standard error; of Genie the codes that it tells. Above 0 actions do
  something, and the right thing.
- **bits**: mutual information of codes and actions. The actions have so many bits as stand behind *of*, and codes that
  say nothing would show those behind *chance*.
- **from one image**: {PLAYED} unseen images are played for {PLAY_STEPS} steps of random actions. *Nearest* is the PSNR
  of the frames with the nearest real frame that the model was fitted to, *motion* the share of pixels that change from
  frame to frame, *whole* the share of frames that show one paddle and one ball; *real* is the same of real frames of
  other episodes.
- **PSNR, moving parts, reward, end** behind {BURN_IN} real frames: as in [worlds of tokens and pixels](pixels.md).
- **PPO** learned in dreams alone. In Genie's its actions are the codes that {LABELLED:,} labelled steps tell.
"""


def report(runs: Path, out: Path) -> None:
    """Write the page and its films."""
    page = out / "playable.json"
    published = json.loads(page.read_text()) if page.is_file() else {"fits": [], "agents": []}
    here = [json.loads(file.read_text()) for file in sorted(runs.glob("Genie*-[0-9].json"))]
    copy_films(here, runs, out)
    played = [json.loads(file.read_text()) for file in sorted(runs.glob("agent-*.json"))]
    fits = latest([*published["fits"], *here], "family", "env", "seed")
    agents = latest([*published["agents"], *played], "family", "agent", "seed")
    others = json.loads((out / "pixels.json").read_text())["fits"] if (out / "pixels.json").is_file() else []
    beside = [one for one in others if one["env"] == MINATAR and one["seed"] == 0]
    facts = {"torch": torch.__version__, "cores": os.cpu_count(), "fits": fits, "beside": beside, "agents": agents}
    page.write_text(json.dumps(facts, indent=1) + "\n")
    write(out)


def latest(found: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    """The last of those that agree in these entries, sorted by them, those without a family last."""
    last = {tuple(one[name] for name in names): one for one in found}
    return [last[key] for key in sorted(last, key=lambda key: (key[0] == "", key))]


def write(out: Path) -> None:
    """The page once more, from ``playable.json`` and the films in ``media``."""
    facts = json.loads((out / "playable.json").read_text())
    (out / "playable.md").write_text(table(facts, *films_and_words(facts["fits"], out)))


def table(facts: Mapping[str, Any], films: Mapping[str, str], shown: Mapping[str, str]) -> str:
    """The page.

    Args:
        facts: what was measured.
        films: file of each fit's film, by the fit's name.
        shown: what a film was seen to show, by file.
    """
    fits = facts["fits"]
    lines = [INTRODUCTION, *control(fits), *play(fits), *beside(facts), *agents(facts["agents"]), *code_tables(fits)]
    lines += ["## Films", "", "Reality is on the left, and the dream on the right: same start, same actions.", ""]
    for one in fits:
        lines += film_lines(films[name_of(one)], named(one), "", shown)
    lines.append(METHOD)
    shown_here = {(one["family"], one["env"]) for one in fits}
    for (family, env_id), world in [(key, world) for key, world in GAMES.items() if key in shown_here]:
        lines.append(f"- {FAMILIES[family]} is shown {env_id} as {world.says}.")
    lines += ["", "```bash", *(command(one) for one in fits), "```", ""]
    return "\n".join([*lines, f"Numbers of every fit: [playable.json](playable.json). Torch {facts['torch']}.", ""])


def named(one: Mapping[str, Any]) -> str:
    """A fit in words."""
    return f"{FAMILIES[one['family']]} on {one['env']}, seed {one['seed']}"


def control(fits: list[dict[str, Any]]) -> list[str]:
    """What is kept of frames, and whether actions do what they were."""
    head = ["world", "parameters", "updates", "CPU", "tokenizer", "under the actions", "random ones", "delta-PSNR"]
    lines = [*row_of(head), "|---|" + "---:|" * len(head)]
    lines[0] = lines[0].removesuffix(" |") + " | bits |"
    for one in fits:
        found, told = one["delta_psnr"], one.get("codes")
        bits = (
            "given" if told is None else f"{told['bits']:.2f} of {told['entropy']:.2f} (chance {told['by_chance']:.2f})"
        )
        cells = [
            named(one),
            f"{one['parameters']:,}",
            f"{one['updates_taken']:,}",
            f"{one['cpu_seconds'] / 60:.0f} min",
        ]
        cells += [f"{one['tokenizer_psnr']:.1f} dB", f"{found['taken']:.1f} dB", f"{found['random']:.1f} dB"]
        lines += row_of([*cells, f"{found['delta']:.2f} ± {found['standard_error']:.2f}", bits])
    return ["## Do actions do what they should?", "", *lines, ""]


def play(fits: list[dict[str, Any]]) -> list[str]:
    """What is left of a game behind one image."""
    lines = []
    for one in fits:
        found = one["played"]
        if not lines:
            head = ["world", "figure", *(f"step {k}" for k in found["at"]), "real"]
            lines += [*row_of(head), "|---|---|" + "---:|" * (len(head) - 2)]
        lines += row_of([named(one), "nearest, dB", *(f"{x:.1f}" for x in found["nearest"])])
        lines += row_of(["", "motion", *(f"{x:.1%}" for x in found["motion"])])
        if "whole" in found:
            lines += row_of(["", "whole", *(f"{x:.0%}" for x in found["whole"])])
    return ["## From one image", "", *lines, ""]


def beside(facts: Mapping[str, Any]) -> list[str]:
    """GenieRedux-G beside worlds that were given the same data."""
    own = [one for one in facts["fits"] if one["family"] == "GenieReduxG"]
    if not own:
        return []
    head = ["world", f"PSNR, k = {STEPS}", f"moving parts, k = {STEPS}", "reward", "end", "CPU"]
    lines = [*row_of(head), "|---|" + "---:|" * (len(head) - 1)]
    for one in [*own, *facts["beside"]]:
        moving, psnr = one["errors"]["moving parts"], one["psnr"]
        cells = [{**OTHERS, **FAMILIES}[one["family"]], " / ".join(f"{x:.1f}" for x in psnr["model"])]
        cells.append(" / ".join(f"{x:.3f}" for x in moving["model"]))
        for name in ("reward", "termination"):
            found = one["detections"].get(name, {})
            shares = (found.get("precision"), found.get("recall"))
            cells.append(" / ".join("-" if share is None else f"{share:.2f}" for share in shares))
        lines += row_of([*cells, f"{one['cpu_seconds'] / 60:.0f} min"])
    for who in ("copy", "mean"):
        psnr, moving = own[0]["psnr"][who], own[0]["errors"]["moving parts"][who]
        cells = [" / ".join(f"{x:.1f}" for x in psnr), " / ".join(f"{x:.3f}" for x in moving)]
        lines += row_of([f"*{who}*", *cells, "", "", ""])
    given = f"{MINATAR}, 16x16. GenieRedux-G is given the actions, as IRIS and DIAMOND are."
    return ["## Beside worlds of the same data", "", given, "", *lines, ""]


def agents(found: list[dict[str, Any]]) -> list[str]:
    """What PPO earns in the real game that learned in dreams."""
    guess = next((one for one in found if one["agent"] == "random"), None)
    if guess is None:
        return []
    head = ["agent", "seed", "dreamed steps", "real return", "standard error", "CPU"]
    lines = [*row_of(head), "|---|" + "---:|" * (len(head) - 1)]
    for one in found:
        last, is_random = one["curve"][-1], one["agent"] == "random"
        mean = f"{last['mean']:.2f}"
        cells = ["uniform actions" if is_random else f"PPO in {FAMILIES[one['family']]}", str(one["seed"])]
        cells += [f"{last['dreamed_steps']:,}", f"**{mean}**" if is_better(one, guess) else mean]
        lines += row_of([*cells, f"{standard_error(last['returns']):.2f}", f"{one['cpu_seconds'] / 60:.0f} min"])
    note = "**Bold**: more than uniform actions earn, by two standard errors of the difference."
    return ["## An agent that learned in the dream", "", *lines, "", note, ""]


def code_tables(fits: list[dict[str, Any]]) -> list[str]:
    """How often each action was told as each code."""
    lines = []
    for one in fits:
        if "codes" not in one:
            continue
        counts, change = one["codes"]["counts"], one["codes"]["change"]
        head = [named(one), *(f"code {code}" for code in range(len(change)))]
        lines += [*row_of(head), "|---|" + "---:|" * len(change)]
        lines += [line for action, row in enumerate(counts) for line in row_of([f"action {action}", *map(str, row)])]
        lines += [*row_of(["*change of a frame, of 255*", *(f"{x:.2f}" for x in change)]), ""]
    return ["## Which code stands for which action", "", *lines] if lines else []


def command(one: Mapping[str, Any]) -> str:
    """What was typed for a fit."""
    words = f"python -m benchmarks.playable --families {one['family']} --seeds {one['seed']} --updates {one['updates']}"
    return f"{words} --tokenizer {one['tokenizer']}{'' if one['env'] == MINATAR else ' --atari'}"


def row_of(cells: list[str]) -> list[str]:
    """A line of a table."""
    return ["| " + " | ".join(cells) + " |"]
