"""Speed of worlds of tokens and pixels at the paper's size: ``python -m benchmarks.pixel_speed``."""

import argparse
import gc
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchrl.data import Bounded, Composite, OneHot

from benchmarks import openings
from benchmarks.measuring import (
    BareCalls,
    FlopCount,
    Setup,
    convolution,
    digits,
    gemm,
    interleaved,
    peak_memory,
    profile,
    resident,
    row,
)
from benchmarks.plots import draw
from benchmarks.report import markdown
from wmcomponents.dream import Simulator
from wmcomponents.dream.starts import Starts
from wmcomponents.functional.distributions.categorical import inverse_cdf_index, softmax
from wmcomponents.models import make_model
from wmcomponents.pretrained import PretrainedModel
from wmcomponents.world_model import State, keys_of

ROOT = Path(__file__).resolve().parents[1]
SIDE, ACTIONS = 64, 18
BATCHES = (1, 16, 64)
PROFILED = 16
"""Largest batch of which a profile is taken."""

MANY = 4e11
"""FLOPs of a call from which the bare calls are left out."""

TITLES = {"dream": "A dream of frames", "cache": "With and without the cache"}
LEADS = {
    "dream": (
        "Frames of Atari's size, 64x64 with 18 actions, models of the paper's size with random weights, dreamt by a "
        "`Simulator` that decodes every one of them. IRIS: one real frame is encoded, and 20 steps follow, whose last "
        "rebuilds the context, which is full by then; Delta-IRIS: likewise, within its context. DIAMOND: one step from "
        "a full context, three steps of Euler's, reward and termination. STORM: 20 steps behind one frame, as IRIS. "
        "Genie: one frame behind one, its case study's size, by 25 rounds of MaskGIT as published and by 8. LWM: one "
        "frame of 256 codes behind one, from the cache. `bare` calls the same matrix products and "
        "convolutions again, with the same weights, shapes and strides, and nothing between them; it is left out from "
        "{many:.0f} GFLOP on. Rates are frames a second. Memory is what the process took at its peak beyond what it "
        "had before the model was built (on a GPU: torch's allocator). Families may be measured at other times, which "
        "the line below is not of; each gap is of one run."
    ),
    "cache": (
        "One step of IRIS from a context of 10 frames, 17 tokens, without decoding: from the cache, and reading the "
        "whole context again for every token."
    ),
}
HEAD = (
    "# Speed of worlds of tokens and pixels\n\nWritten by `python -m benchmarks.pixel_speed`; the same figures are in "
    "[pixel_speed.json](pixel_speed.json)."
)


@dataclass(frozen=True)
class World:
    """What is measured of a family.

    Attributes:
        steps: environment steps of one call.
        begins: whether a call begins with a real frame; else it goes on where the last one stopped.
        goals: largest gap to the floor, by batch.
        preset: of the paper's size.
        past: real frames that are seen before the first call.
        family: of ``MODELS``; its own name where it is measured in one form.
        changes: of the preset.
        batches: that are measured.
    """

    steps: int = 20
    begins: bool = True
    goals: tuple[float | None, ...] = (None, None, None)
    preset: str = "atari"
    past: int = 1
    family: str = ""
    changes: dict[str, Any] = field(default_factory=dict)
    batches: tuple[int, ...] = BATCHES


OUTCOMES = {"outcome_blocks": 1}
"""Reward and end beside Genie's frames, which it does not have as published."""

WORLDS = {
    "IRIS": World(goals=(5.0, 1.9, 1.5)),
    "DeltaIRIS": World(),
    "Diamond": World(steps=1, begins=False, goals=(1.6, 1.3, 1.3), past=4),
    "STORM": World(),
    "Genie, 25 rounds": World(1, preset="coinrun", family="Genie", changes={"rounds": 25, **OUTCOMES}, batches=(1,)),
    "Genie, 8 rounds": World(1, preset="coinrun", family="Genie", changes={"rounds": 8, **OUTCOMES}, batches=(1,)),
    "LWM": World(1, preset="size200m", batches=(1,)),
}
FAMILIES = list(WORLDS)


class FrameStarts(Starts):
    """Dreams that begin behind the same real frames; they are encoded every time."""

    def __init__(self, model: PretrainedModel, rows: int, frames: int, device: str) -> None:
        self.model, self.rows, self.frames = model, rows, frames
        generator = torch.Generator(device).manual_seed(0)
        self.key = keys_of(model.observation_spec)[0]
        shape = (rows, frames, SIDE, SIDE, 3)
        self.pixels = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8, device=device)

    def sample(self, count: int, generator: torch.Generator) -> State:
        """The states behind the last frame."""
        device = self.pixels.device
        is_init = torch.zeros(count, self.frames, 1, dtype=torch.bool, device=device)
        is_init[:, 0] = True
        action = self.model.null_action((count, self.frames), device)
        noise = self.model.noise_source("observe")((count, self.frames), generator)
        before = self.model.initial_state((count,), device)
        return self.model.observe_last(before, action, {self.key: self.pixels[:count]}, is_init, noise)


def build(name: str, device: str = "cpu") -> PretrainedModel:
    """A model of ``WORLDS`` with fresh weights, for Atari's frames."""
    torch.manual_seed(0)
    world = WORLDS[name]
    pixels = Composite(pixels=Bounded(0, 255, torch.Size([SIDE, SIDE, 3]), dtype=torch.uint8))
    return make_model(world.family or name, world.preset, pixels, OneHot(ACTIONS), **world.changes).to(device).eval()


def dreaming(model: PretrainedModel, world: World, rows: int, device: str) -> Callable[[], None]:
    """The call that is timed."""
    simulator = Simulator(
        model, FrameStarts(model, rows, world.past, device), batch_size=rows, print_fn=lambda told: print(f"  {told}")
    )
    choices = model.action_spec.shape[-1]
    action = torch.nn.functional.one_hot(torch.arange(rows, device=device) % choices, choices)
    simulator.reset()

    def call() -> None:
        if world.begins:
            simulator.reset()
        for _ in range(world.steps):
            simulator.step(action)

    return call


def dream(setup: Setup, families: list[str], batches: tuple[int, ...] = BATCHES) -> list[dict[str, Any]]:
    """Two rows for each family and batch: the dream, and the bare calls."""
    rows = []
    for family in families:
        world = WORLDS[family]
        goals: dict[int, float | None] = dict(zip(BATCHES, world.goals, strict=True))
        for batch in [batch for batch in batches if batch in world.batches]:
            gc.collect()
            before = resident()
            model = build(family, setup.device)
            call = dreaming(model, world, batch, setup.device)
            peak = peak_memory(call, setup.device)
            with BareCalls(model) as bare, FlopCount() as counted:
                call()
            timed = {"dream": call, "gemm": gemm(setup), "conv": convolution(setup)}
            if counted.total < MANY:
                timed["bare"] = bare.replay
            times = interleaved(timed, setup)
            shared: dict[str, Any] = {
                "work": f"{family}, B={batch}",
                "config": world.preset,
                "steps": world.steps * batch,
            }
            flop: dict[str, Any] = {"flop": counted.total, "conv_flop": counted.convolutions}
            made = row(times, "dream", **shared, **flop, goal=goals.get(batch))
            if batch <= PROFILED:  # of few steps: a profile keeps every operation
                few = replace(world, steps=min(world.steps, 2))
                made["profile"] = profile(dreaming(model, few, batch, setup.device))
            if peak is not None:
                made["peak_mib"] = digits((peak - (before or 0 if setup.device == "cpu" else 0)) / 2**20)
                made["state_mib"] = digits(model.state_bytes(batch) / 2**20)
            rows.append(made)
            if "bare" in times:
                rows.append(row(times, "bare", **shared, **flop))
                made["bare_ratio"] = digits(made["ms"] / rows[-1]["ms"])
            print(f"  {family}, B={batch}: {made['ms']:.4g} ms, gap {made['gap']}", flush=True)
            del model, call, bare, timed
    return rows


def uncached(dynamics: Any, sequence: Tensor, noise: Tensor) -> Tensor:
    """A frame written behind a sequence that ends with an action, which is read anew for every token: ``[N, K]``."""
    length = sequence.shape[1]
    for number in range(noise.shape[1]):
        logits = dynamics.read(sequence).tokens[:, -1]
        token = inverse_cdf_index(softmax(logits), noise[:, number])
        sequence = torch.cat([sequence, token.unsqueeze(1)], 1)
    return sequence[:, length:]


def contexts(model: Any, rows: int, frames: int, device: str) -> tuple[State, Tensor, Tensor, dict[str, Tensor]]:
    """A state behind so many frames, an action, the sequence of all tokens up to it, and the noise of a step."""
    generator = torch.Generator(device).manual_seed(0)
    words, vocabulary = model.tokenizer.length, model.tokenizer.quantizer.codes
    tokens = torch.randint(0, vocabulary, (rows, frames, words), generator=generator, device=device)
    number = torch.randint(0, ACTIONS, (rows, frames, 1), generator=generator, device=device)
    sequence = torch.cat([tokens, number], -1).flatten(1)
    dynamics = model.dynamics
    kv_cache = dynamics.empty_kv_cache((rows,), device)
    length = torch.zeros(rows, 1, dtype=torch.int64, device=device)
    hidden = torch.zeros(rows, model.dynamics.dim, device=device)
    before = tokens[:, 0]
    for t in range(frames):
        began = torch.full((rows, 1), t == 0, device=device)
        acted = number[:, max(t - 1, 0), 0]
        length, hidden = dynamics.observe(before, kv_cache, length, acted, tokens[:, t], began)
        before = tokens[:, t]
    state = {"tokens": before, "kv_cache": kv_cache, "length": length, "hidden": hidden}
    noise = model.noise_source("imagine")((rows,), generator)
    return state, torch.nn.functional.one_hot(number[:, -1, 0], ACTIONS), sequence, noise


def cache(
    setup: Setup, families: list[str], batches: tuple[int, ...] = BATCHES, frames: int = 10
) -> list[dict[str, Any]]:
    """Two rows for each batch but the largest: a step of IRIS from its cache, and without one."""
    rows = []
    for batch in [batch for batch in batches if batch < max(BATCHES) and "IRIS" in families]:
        model = build("IRIS", setup.device)
        state, action, sequence, noise = contexts(model, batch, frames, setup.device)
        runs = {
            "cached": lambda: model.imagine_inplace(state, action, noise),  # noqa: B023
            "uncached": lambda: uncached(model.dynamics, sequence, noise["tokens"]),  # noqa: B023
        }
        times = interleaved(runs, setup)
        shared: dict[str, Any] = {"work": f"IRIS, B={batch}", "config": WORLDS["IRIS"].preset, "steps": batch}
        rows.append(row(times, "cached", **shared, rivals=("uncached",), goal=0.2))
        rows.append(row(times, "uncached", **shared))
        print(f"  IRIS, B={batch}: x{rows[-2]['ratio']} of the time without a cache", flush=True)
    return rows


SECTIONS = {"dream": dream, "cache": cache}


def measure(setup: Setup, families: list[str], sections: list[str], batches: tuple[int, ...]) -> dict[str, Any]:
    """Both sections on one device, by name."""
    found: dict[str, Any] = {}
    for name in sections:
        settings = setup.describe()
        with setup.threaded(), torch.no_grad():
            found[name] = {"settings": settings, "rows": SECTIONS[name](setup, families, batches)}
    return found


def beside_others(before: dict[str, Any] | None, measured: dict[str, Any]) -> dict[str, Any]:
    """What was measured now, with what was measured before of other work.

    Args:
        before: of the same section and device, if any.
        measured: settings and rows.
    """
    if before is None or "rows" not in before:
        return measured
    now = {one["work"] for one in measured["rows"]}
    kept = [one for one in before["rows"] if one["work"] not in now]
    order = {name: place for place, name in enumerate(WORLDS)}
    rows = sorted([*kept, *measured["rows"]], key=lambda one: order.get(one["work"].rpartition(", B=")[0], len(order)))
    return {**measured, "rows": rows}


def write(result: dict[str, Any], out: Path) -> None:
    """The figures as JSON and Markdown."""
    out.mkdir(parents=True, exist_ok=True)
    result["sections"] = {name: result["sections"][name] for name in TITLES if name in result["sections"]}
    (out / "pixel_speed.json").write_text(json.dumps(result, indent=1) + "\n")
    (out / "pixel_speed.md").write_text(page(result))
    draw("pixel_speed", out)


def page(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    leads = {name: lead.format(many=MANY / 1e9) for name, lead in LEADS.items()}
    return markdown(result, TITLES, leads, HEAD, openings.pixel_speed)


def main(arguments: list[str] | None = None) -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pixel_speed", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(TITLES), default=list(TITLES), help="sections to measure")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES, help="families to measure")
    parser.add_argument("--repeats", type=int, default=3, help="interleaved repeats")
    parser.add_argument("--batches", nargs="+", type=int, choices=BATCHES, default=BATCHES, help="rows of a dream")
    parser.add_argument("--threads", type=int, default=1, help="of torch on the CPU; 0: what torch takes by itself")
    parser.add_argument("--cpu-time", action="store_true", help="the process's own time: when others run")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks", help="folder of pixel_speed.json")
    parser.add_argument("--report", action="store_true", help="measure nothing; write the page from its figures")
    given = parser.parse_args(arguments)
    path = given.out / "pixel_speed.json"
    result = json.loads(path.read_text()) if path.is_file() else {"sections": {}}
    if not given.report:
        options: dict[str, Any] = {"repeats": given.repeats, "threads": given.threads, "cpu_time": given.cpu_time}
        setups = [Setup(**options)]
        if torch.cuda.is_available():
            setups.append(Setup(device="cuda", **{**options, "cpu_time": False}))
        for setup in setups:
            print(f"on {setup.device} ...", flush=True)
            for name, measured in measure(setup, given.families, given.only, tuple(given.batches)).items():
                section = result["sections"].setdefault(name, {})
                section[setup.device] = beside_others(section.get(setup.device), measured)
                result["sections"][name].setdefault("cuda", {"skipped": "no GPU"})
    write(result, given.out)
    print(f"written: {path}, {given.out / 'pixel_speed.md'}")


if __name__ == "__main__":
    main()
