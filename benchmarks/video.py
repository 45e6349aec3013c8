"""Worlds of video diffusion, learned from real games: ``python -m benchmarks.video``.

It fits, measures and films what is missing (runs are kept in ``runs/video``, and resumed where they were) and writes
``docs/benchmarks/video.json``, ``video.md`` and films in ``docs/benchmarks/media``. Each run is one thread of a CPU.
"""

import argparse
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torchrl.data import TensorSpec, Unbounded

from benchmarks.fitting import kept
from benchmarks.measuring import digits
from benchmarks.pixel_worlds import MINATAR, run_name
from benchmarks.pixels import figures, fit, held_against
from benchmarks.playable import FilmWorld, begun, played
from benchmarks.video_adapters import WAYS, adapted
from benchmarks.video_page import report
from benchmarks.video_variants import VARIANTS, varied
from benchmarks.video_worlds import (
    CONTEXTS,
    DRIFT_AT,
    DRIFT_ROWS,
    FEW_STEPS,
    FITS,
    GAMES,
    SOLVER_STEPS,
    STEPS_TRIED,
    SWEPT_SEQUENCES,
)
from wmcomponents.cli.console import quiet
from wmcomponents.functional import EulerFlowSampler
from wmcomponents.models import CausVid, CausVidConfig
from wmcomponents.models.diffusion.film_world import FilmPast
from wmcomponents.models.diffusion.forcing_world import ForcingWorld
from wmcomponents.models.loading import load

RUNS, OUT = Path("runs/video"), Path("docs/benchmarks")


class TeacherWorld(CausVid):
    """The teacher of a CausVid as a world: it draws whole films, whose known frames are put back before every step."""

    def step_noise(self, frames: int = 1) -> dict[str, TensorSpec]:
        """Where the film begins, known frames too."""
        return {"frame": Unbounded(torch.Size([self.window, *self.frame_shape]))}

    def draw(self, past: FilmPast, led: Tensor, noise: Mapping[str, Tensor]) -> Tensor:
        """The last frame of films whose others are known."""
        drawn = torch.empty(len(led), 1, *self.frame_shape)
        for count in past.count.unique().tolist():  # films of one length at a time
            rows = past.count[:, 0] == count
            known, film = past.frames[rows, :count], noise["frame"][rows, : count + 1]
            actions = torch.cat([past.led[rows, :count], led[rows]], 1)

            def velocity(x: Tensor, moment: float, step: int) -> Tensor:
                back = (1 - moment) * known + moment * film[:, :count]  # noqa: B023
                shown = torch.cat([back, x[:, count:]], 1)  # noqa: B023
                return self.teacher_velocity(shown, x.new_full((len(x), 1), moment), actions)  # noqa: B023

            drawn[rows] = EulerFlowSampler(SOLVER_STEPS).trajectory(velocity, film)[-1][:, count:]
        return drawn


def teacher_of(student: CausVid) -> TeacherWorld:
    """The teacher as a world, with the student's weights and those of reward and end."""
    config = cast(CausVidConfig, student.config)
    made = TeacherWorld(config, student.observation_spec, student.action_spec)
    made.load_state_dict(student.state_dict())
    return cast(TeacherWorld, made.eval())


def drift(model: ForcingWorld, env_id: str, seed: int) -> dict[str, Any]:
    """What is left of long dreams from one image each, by how past frames are shown."""
    sampling, found = model.sampling, {}
    for context in CONTEXTS:
        model.sampling = replace(sampling, context=context)
        found[context] = played(model, env_id, seed, RUNS, GAMES[env_id], DRIFT_ROWS, DRIFT_AT)
        print(f"  drift of {type(model).__name__}, {context}: {found[context]}", flush=True)
    model.sampling = sampling
    return found


def swept(worlds: Mapping[str, Callable[[], FilmWorld]], env_id: str, seed: int) -> dict[str, Any]:
    """Quality and cost of frames, by the name of how they are drawn.

    Args:
        worlds: by name; each is made when its turn comes.
        env_id: of the game.
        seed: of the fit.

    Returns:
        Of each the errors that ``figures`` gives, and ``ms``: CPU milliseconds of a frame, for 1 and for 16 dreams at
        once.
    """
    found = {}
    for name, make in worlds.items():
        model = make()
        errors = figures(held_against(model, env_id, seed, RUNS, GAMES[env_id], SWEPT_SEQUENCES, 1))
        found[name] = {**errors, "ms": {str(rows): digits(milliseconds(model, rows)) for rows in (1, 16)}}
        print(f"  {name}: {found[name]['psnr']['model']} dB, {found[name]['ms']} ms", flush=True)
    return found


@torch.no_grad()
def milliseconds(model: FilmWorld, rows: int, frames: int = 8) -> float:
    """CPU time of a dreamt frame: that of so many dreams at once, over their number; the middle of three."""
    pixels = model.observation_spec[model.image_key]
    state = begun(model, torch.zeros(rows, *pixels.shape, dtype=torch.uint8))
    action, source = model.action_spec.rand(torch.Size([rows])), model.noise_source("imagine")
    draws, took = torch.Generator().manual_seed(0), []
    for _ in range(model.window):  # until the window is full
        state = model.imagine_inplace(state, action, source((rows,), draws)).state
    for _ in range(3):
        begin = time.process_time()
        for _ in range(frames):
            state = model.imagine_inplace(state, action, source((rows,), draws)).state
        took.append(1e3 * (time.process_time() - begin) / (frames * rows))
    return sorted(took)[1]


W = TypeVar("W", ForcingWorld, CausVid)


def by_steps(model: W, steps: Sequence[int]) -> dict[str, Callable[[], W]]:
    """The same world, whose sampler takes so many steps, by the name of how frames are drawn."""

    def sampled(count: int) -> W:
        model.sampling = replace(cast(Any, model.sampling), steps=count)
        return model

    return {f"{count} steps": lambda count=count: sampled(count) for count in steps}


def measured(family: str, env_id: str, seed: int, minutes: float) -> None:
    """Fit a world, then measure what of it the page shows; what was found before stays."""
    name = run_name(family, env_id, seed)
    made = fit(family, env_id, seed, RUNS, FITS[family, env_id], minutes, GAMES[env_id])
    print(f"{name}: {made['cpu_seconds']} s {made['psnr']['model']} dB {made['detections']}", flush=True)
    model = load(RUNS / name / "model").eval()
    if isinstance(model, CausVid):
        student = model
        ways = {**by_steps(student, FEW_STEPS), "teacher": lambda: teacher_of(student)}
        kept(f"{name}-steps", lambda: swept(ways, env_id, seed), RUNS)
    elif isinstance(model, ForcingWorld) and env_id == MINATAR:
        world, own = model, model.sampling
        kept(f"{name}-steps", lambda: swept(by_steps(world, STEPS_TRIED), env_id, seed), RUNS)
        world.sampling = own
        kept(f"{name}-drift", lambda: drift(world, env_id, seed), RUNS)


def main() -> None:
    """Fit and measure what is missing and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.video", description="worlds of video diffusion")
    everything = [*dict.fromkeys(family for family, _ in FITS), "AVID", "variants"]
    parser.add_argument("--families", nargs="+", default=everything, choices=everything)
    parser.add_argument("--envs", nargs="+", default=list(GAMES), choices=list(GAMES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--minutes", type=float, default=math.inf, help="wall time after which a fit ends where it is")
    parser.add_argument("--no-table", action="store_true", help="write no page")
    parser.add_argument("--report", action="store_true", help="fit nothing; write the page of what was found so far")
    given = parser.parse_args()
    torch.set_num_threads(1)
    quiet()
    RUNS.mkdir(parents=True, exist_ok=True)
    for seed in [] if given.report else given.seeds:
        for family, env_id in FITS:
            if family in given.families and env_id in given.envs:
                measured(family, env_id, seed, given.minutes)
        if "AVID" in given.families:
            for way in WAYS:
                kept(f"AVID-{way}-{seed}", lambda way=way, seed=seed: adapted(way, seed, RUNS), RUNS)
        if "variants" in given.families:
            for name in VARIANTS:
                kept(f"variant-{name}-{seed}", lambda name=name, seed=seed: varied(name, seed, RUNS), RUNS)
    if not given.no_table:
        report(RUNS, OUT)


if __name__ == "__main__":
    main()
