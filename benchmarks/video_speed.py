"""Worlds of video diffusion: frames a second over their floor, and what remembering the past is worth.

``python -m benchmarks.video_speed`` writes ``docs/benchmarks/video_speed.json`` and ``video_speed.md``.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchrl.data import Bounded, Composite, OneHot

from benchmarks.measuring import (
    FlopCount,
    Setup,
    clock_told,
    convolution,
    gemm,
    interleaved,
    row,
    setup_of,
    timing_parser,
    typed,
)
from wmcomponents.models import make_model
from wmcomponents.nn.space_time.branches import PastFrames
from wmcomponents.pretrained import PretrainedModel
from wmcomponents.world_model import State

OUT = Path("docs/benchmarks")
SIDE, ACTIONS = 16, 3
BATCHES = (1, 16)
REMEMBERED, ANEW = "the past remembered", "the past anew in every step"


class World(NamedTuple):
    """What is measured of a family.

    Attributes:
        told: in the table.
        family: of ``MODELS``.
        preset: of the family.
        remembers: whether its network sees no later frame, so that what it makes of the past can be kept.
    """

    told: str
    family: str
    preset: str = "tiny"
    remembers: bool = False


WORLDS = (
    World("Diffusion Forcing", "DiffusionForcing", remembers=True),
    World("Oasis", "Oasis", remembers=True),
    World("CausVid", "CausVid", remembers=True),
    World("NWM", "NWM"),
    World("AVID", "AVID"),
    World("Open-Sora, 1.2's network", "OpenSora"),
    World("Open-Sora, 2.0's network", "OpenSora", "tiny_two_streams"),
    World("DIAMOND", "Diamond"),
)


class Anew(nn.Module):
    """A network that remembers nothing: what it says of a new frame is said of the past as well, every time.

    Args:
        network: one that sees no later frame, of windows that are full.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def remember(self, noisy: Tensor, level: Tensor, action: Tensor, count: Tensor | None = None) -> list[Tensor]:
        """The past itself."""
        return [noisy, level, action]

    def follow(
        self, noisy: Tensor, level: Tensor, action: Tensor, past: Sequence[Tensor], start: Tensor
    ) -> tuple[Tensor, list[PastFrames]]:
        """What the network says of the new frames of the whole film."""
        film = (torch.cat([old, new], 1) for old, new in zip(past, (noisy, level, action), strict=True))
        return self.network.compute(*film)[:, -noisy.shape[1] :], []


@contextmanager
def anew(model: Any):
    """A world whose network remembers nothing, for a while."""
    network = model.network
    model.network = Anew(network)
    try:
        yield
    finally:
        model.network = network


def build(world: World, device: str = "cpu") -> PretrainedModel:
    """A model with fresh weights, for the images of MinAtar's games."""
    torch.manual_seed(0)
    pixels = Composite(pixels=Bounded(0, 255, torch.Size([SIDE, SIDE, 3]), dtype=torch.uint8))
    return make_model(world.family, world.preset, pixels, OneHot(ACTIONS)).to(device).eval()


def full(model: Any, rows: int, device: str) -> State:
    """States whose windows are full, behind random frames."""
    generator, state = torch.Generator(device).manual_seed(0), model.initial_state((rows,), device)
    source, action = model.noise_source("observe"), model.null_action((rows,), device)
    for step in range(window_of(model)):
        image = torch.randint(0, 256, (rows, SIDE, SIDE, 3), generator=generator, dtype=torch.uint8, device=device)
        first = torch.full((rows, 1), step == 0, device=device)
        state = model.observe(state, action, {"pixels": image}, first, source((rows,), generator))
    return state


def window_of(model: PretrainedModel) -> int:
    """Most frames that a state holds."""
    return next(iter(model.state_spec.values())).shape[0]


def framed(model: Any, rows: int, device: str) -> Callable[[], Tensor]:
    """One dreamt frame of each row, as pictures."""
    state, generator = full(model, rows, device), torch.Generator(device).manual_seed(1)
    noise = model.noise_source("imagine")((rows,), generator)
    action = nn.functional.one_hot(torch.arange(rows, device=device) % ACTIONS, ACTIONS)

    @torch.no_grad()
    def call() -> Tensor:
        return model.decode(model.imagine(state, action, noise).state)["pixels"]

    return call


def measure(setup: Setup, worlds: Sequence[World] = WORLDS, batches: Sequence[int] = BATCHES) -> list[dict[str, Any]]:
    """Rows of each world and batch: a frame, and where the past is remembered the same frame without that."""
    rows = []
    with setup.threaded(), torch.no_grad():
        for world in worlds:
            model = build(world, setup.device)
            for batch in batches:
                call = framed(model, batch, setup.device)
                with FlopCount() as counted:
                    call()
                runs: dict[str, Callable[[], Any]] = {REMEMBERED: call}
                if world.remembers:

                    def forgetful(model: PretrainedModel = model, call: Callable[[], Tensor] = call) -> Tensor:
                        with anew(model):
                            return call()

                    runs[ANEW] = forgetful
                times = interleaved({**runs, "gemm": gemm(setup), "conv": convolution(setup)}, setup)
                shared: dict[str, Any] = {"work": f"{world.told}, B={batch}", "config": told_of(model), "steps": batch}
                flop: dict[str, Any] = {"flop": counted.total, "conv_flop": counted.convolutions}
                rivals = (ANEW,) if world.remembers else ()
                rows.append(row(times, REMEMBERED, **shared, **flop, rivals=rivals))
                if world.remembers:
                    rows.append(row(times, ANEW, **shared))
                print(f"  {shared['work']}: {rows[-1]['ms']} ms", flush=True)
    return rows


def told_of(model: Any) -> str:
    """Frames of the window and steps of the sampler."""
    sampling = model.sampling if hasattr(model, "sampling") else model.sampler
    return f"{window_of(model)} frames, {sampling.steps} steps"


def page(facts: dict[str, Any]) -> str:
    """The table that the numbers give."""
    lines = [
        "# Worlds of video: speed",
        "",
        f"One dreamt frame of {SIDE}x{SIDE} pixels, decoded, behind a full window; presets `tiny` with fresh weights,",
        "reward and end where the preset has them. The gap is the time over that of the matrix products and",
        "convolutions alone, at the machine's rates in the same run. Where a network sees no later frame, the past is",
        "gone through once for each new frame and remembered while that is denoised; beside it the same frame, for",
        "which the network reads the whole window in every step of the sampler.",
        "",
        "| world | sizes | ms a call | range | frames a second | gap to the floor | over the past anew |",
        "|---|---|---:|---|---:|---:|---:|",
    ]
    for one in facts["rows"]:
        low, high = one["range"]
        name = one["work"] if one["variant"] == REMEMBERED else f"{one['work']}, {ANEW}"
        ratio = f"{one['ratio']:.2f}" if "ratio" in one else ""
        gap = f"{one['gap']:.2f}" if "gap" in one else ""
        cells = [name, one["config"], f"{one['ms']:g}", f"{low:g} to {high:g}", f"{one['rate']:g}", gap, ratio]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"`{facts['command']}`, torch {facts['machine']['torch']}, {facts['device']}, {facts['threads']} thread(s),",
        f"medians of up to {facts['repeats']} interleaved repeats, {clock_told(facts)}; the allocator as it comes.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure and write the numbers."""
    parser = timing_parser(__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--report", action="store_true", help="measure nothing; write the page from its figures")
    given = parser.parse_args()
    file = given.out / "video_speed.json"
    if given.report:
        facts = json.loads(file.read_text())
    else:
        setup = setup_of(given)
        command = typed("video_speed", given)
        facts = {"command": command, **setup.describe(), "rows": measure(setup)}
        file.write_text(json.dumps(facts, indent=1) + "\n")
    (given.out / "video_speed.md").write_text(page(facts))


if __name__ == "__main__":
    main()
