"""How well worlds of tokens and pixels learn real games: held-out k-step errors and films after a short fit.

Run it with ``python -m benchmarks.pixels``; it writes ``docs/benchmarks/pixels.json``, ``pixels.md`` and the films in
``docs/benchmarks/media``. Finished fits are kept in ``runs/pixels`` and not repeated; a fit that was stopped goes on
where it was.
"""

import argparse
import json
import math
import os
import time
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch
from tensordict import TensorDictBase

from benchmarks.fitting import HELD_OUT_STEPS, REAL_STEPS, at_horizons, data
from benchmarks.measuring import digits
from benchmarks.pixel_page import report
from benchmarks.pixel_worlds import (
    BURN_IN,
    DREAMS,
    FAMILIES,
    FITS,
    HELD_OUT_SEQUENCES,
    KS,
    WORLDS,
    PixelFit,
    World,
    run_name,
)
from wmcomponents.cli.console import quiet
from wmcomponents.data import action_spec, make_env, observation_spec
from wmcomponents.dream import ReplayStarts
from wmcomponents.evaluation import (
    HorizonErrors,
    compare,
    comparison_reels,
    horizon_errors,
    longest,
    side_by_side,
    write_webp,
)
from wmcomponents.models import make_model
from wmcomponents.models.loading import load
from wmcomponents.pretrained import PretrainedModel
from wmcomponents.pretrained.training_note import note_training
from wmcomponents.rendering import make_renderer
from wmcomponents.training import Trainer, UntrainedStageWarning, seed_everything

STARTS, FILM_BYTES, FILM_SEQUENCES = 32, 600_000, 128
CHUNK = 25
"""Updates between two bundles: what a kill costs at most."""


def fit(
    family: str,
    env_id: str,
    seed: int,
    folder: Path,
    how: PixelFit,
    minutes: float = math.inf,
    world: World | None = None,
) -> dict[str, Any]:
    """Fit one model and hold it against reality, or return what an earlier run found.

    Args:
        family: of the model.
        env_id: of the game.
        seed: of data, fit and measurement.
        folder: what is kept.
        how: updates and sizes.
        minutes: of wall time, all resumes together, after which the fit ends where it is.
        world: how the game is shown, where it is not as in :data:`WORLDS`.

    Raises:
        ValueError: if an earlier run had other settings.
    """
    name = run_name(family, env_id, seed)
    world, home, result = world or WORLDS[env_id], folder / name, folder / f"{name}.json"
    settings = {"env_options": world.options, "preset": world.preset, "real_steps": REAL_STEPS, **asdict(how)}
    check_settings(result if result.is_file() else home / "settings.json", settings)
    if result.is_file():
        return json.loads(result.read_text())
    if not (home / "fit.json").is_file():
        train(family, env_id, seed, folder, how, minutes, world)
    facts, model = json.loads((home / "fit.json").read_text()), load(home / "model")
    found = held_against(model, env_id, seed, folder, world)
    film(model, env_id, seed, folder, folder / f"{name}.webp", world)
    made = {
        "family": family,
        "env": env_id,
        "seed": seed,
        **settings,
        **facts,
        "config": how.config,
        "parameters": sum(p.numel() for p in model.parameters()),
        **figures(found),
    }
    result.write_text(json.dumps(made) + "\n")
    return made


def held_against(
    model: PretrainedModel,
    env_id: str,
    seed: int,
    folder: Path,
    world: World,
    sequences: int = HELD_OUT_SEQUENCES,
    dreams: int = DREAMS,
) -> HorizonErrors:
    """Errors of dreams behind real frames of other episodes.

    Args:
        model: a fitted one.
        env_id: of the game.
        seed: of the fit; data and dreams have others that follow from it.
        folder: where the data are kept.
        world: how the game is shown.
        sequences: real ones.
        dreams: of each.
    """
    generator, real = torch.Generator().manual_seed(seed), held_out(env_id, seed, folder, world, sequences)
    return horizon_errors(model, real, burn_in=BURN_IN, horizon=KS[-1], samples=dreams, generator=generator)


def held_out(env_id: str, seed: int, folder: Path, world: World, sequences: int) -> TensorDictBase:
    """So many real sequences of episodes to which nothing was fitted, ``[B, T]``.

    Args:
        env_id: of the game.
        seed: of the fit; that of these data follows from it.
        folder: where the data are kept.
        world: how the game is shown.
        sequences: B.
    """
    replay = data(env_id, seed + 1000, HELD_OUT_STEPS, BURN_IN - 1 + KS[-1], sequences, folder, **world.options)
    replay.set_rng(torch.Generator().manual_seed(seed))
    return cast(TensorDictBase, replay.sample())


def check_settings(file: Path, settings: dict[str, Any]) -> None:
    """Refuse to go on with what other settings began; where nothing was begun, write them down.

    Raises:
        ValueError: if the file tells others.
    """
    settings = json.loads(json.dumps(settings))
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings) + "\n")
    kept = json.loads(file.read_text())
    differing = {key: (kept.get(key), value) for key, value in settings.items() if kept.get(key) != value}
    if differing:
        told = ", ".join(f"{key} was {before!r} and is {now!r}" for key, (before, now) in differing.items())
        raise ValueError(f"{file} is of a fit with other settings: {told}. Choose another --runs, or delete that fit.")


def train(
    family: str,
    env_id: str,
    seed: int,
    folder: Path,
    how: PixelFit,
    minutes: float,
    world: World | None = None,
    home: Path | None = None,
) -> None:
    """Fit a model, or go on with it; bundles, times and at last the model lie in the fit's folder.

    Args:
        family: of the model.
        env_id: of the game.
        seed: of data and fit.
        folder: where the data are kept.
        how: updates and sizes.
        minutes: of wall time, see :func:`fit`.
        world: how the game is shown, where it is not as in :data:`WORLDS`.
        home: the fit's folder, where it is not in the other one.
    """
    world, home = world or WORLDS[env_id], home or folder / run_name(family, env_id, seed)
    replay = data(env_id, seed, REAL_STEPS, how.sequence_length, how.batch_size, folder, **world.options)
    env = make_env(env_id, **world.options)
    seed_everything(seed)
    model = make_model(family, world.preset, observation_spec(env), action_spec(env), **how.config)
    env.close()
    trainer = Trainer(
        model, replay, lr=how.lr, schedule=how.schedule, out=home, checkpoint_every=CHUNK, seed=seed, progress=False
    )
    clock = _Clock(home / "clock.json")
    while trainer.steps < how.updates and clock.seconds < 60 * minutes:
        with warnings.catch_warnings():  # the last piece reaches every stage
            warnings.simplefilter("ignore", UntrainedStageWarning)
            losses = trainer.train(min(trainer.steps + CHUNK, how.updates))
        clock.lap()
        if trainer.steps % (8 * CHUNK) == 0 or trainer.steps == how.updates:
            shown = {key: digits(value) for key, value in losses.items()}
            print(f"{home.name} update {trainer.steps}, {clock.seconds:.0f} s {shown}", flush=True)
    starts = ReplayStarts(model, replay.sample, pool_size=STARTS, seed=seed)
    note_training(
        model.save_pretrained(home / "model", starts=starts.pool),
        {
            "env": env_id,
            "env_options": world.options,
            "family": family,
            "preset": world.preset,
            "steps": trainer.steps,
        },
    )
    facts = {
        "updates_taken": trainer.steps,
        "seconds": round(clock.seconds, 1),
        "cpu_seconds": round(clock.cpu_seconds, 1),
        "losses": {key: digits(value, 4) for key, value in trainer.losses.items()},
    }
    (home / "fit.json").write_text(json.dumps(facts) + "\n")


class _Clock:
    """Wall and CPU time of a fit over all its resumes, kept in a file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        kept = json.loads(file.read_text()) if file.is_file() else {"seconds": 0.0, "cpu_seconds": 0.0}
        self.seconds, self.cpu_seconds = kept["seconds"], kept["cpu_seconds"]
        self._last = time.perf_counter(), time.process_time()

    def lap(self) -> None:
        """Add what passed since the last lap."""
        now = time.perf_counter(), time.process_time()
        self.seconds += now[0] - self._last[0]
        self.cpu_seconds += now[1] - self._last[1]
        self._last = now
        unfinished = self._file.with_suffix(".unfinished")
        unfinished.write_text(json.dumps({"seconds": self.seconds, "cpu_seconds": self.cpu_seconds}) + "\n")
        os.replace(unfinished, self._file)


def film(model: PretrainedModel, env_id: str, seed: int, folder: Path, file: Path, world: World | None = None) -> Path:
    """A film of reality beside the dream: the longest of many held-out stretches, same start, same actions."""
    world = world or WORLDS[env_id]
    length = BURN_IN - 1 + world.film_steps
    replay = data(env_id, seed + 1000, HELD_OUT_STEPS, length, FILM_SEQUENCES, folder, **world.options)
    replay.set_rng(torch.Generator().manual_seed(seed))
    sequences = cast(TensorDictBase, replay.sample())
    chosen = cast(TensorDictBase, sequences[longest(sequences, burn_in=BURN_IN, horizon=world.film_steps)])
    comparison = compare(
        model,
        chosen,
        burn_in=BURN_IN,
        horizon=world.film_steps,
        generator=torch.Generator().manual_seed(seed),
    )
    pages = side_by_side(
        comparison_reels(comparison, make_renderer(env_id, model.observation_spec)), caption="same start, same actions"
    )
    return write_webp(pages, file, fps=world.fps, max_bytes=FILM_BYTES)


def figures(found: HorizonErrors) -> dict[str, Any]:
    """What the page shows of the errors."""
    (key,) = found.observation
    image, psnr = found.observation[key], None
    if image.metric != "error rate":  # small boards are counted by their cells
        psnr = {who: [digits(decibels(getattr(image, who)[k - 1]), 4) for k in KS] for who in ("model", "copy", "mean")}
    return {
        "errors": at_horizons(
            {
                "frames": image,
                "moving parts": found.moving[key],
                "reward": found.reward,
                "termination": found.termination,
            },
            KS,
        ),
        "psnr": psnr,
        "detections": {
            name: {**finite(vars(one)), "rate": digits(one.real / sum(found.rows))}
            for name, one in found.detections.items()
        },
        "rows": [found.rows[k - 1] for k in KS],
    }


def decibels(mse: float) -> float:
    """Peak signal-to-noise ratio of images in [0, 1]."""
    return -10.0 * math.log10(max(mse, 1e-10))


def finite(values: dict[str, float]) -> dict[str, float | None]:
    """Numbers as JSON has them."""
    return {key: digits(value, 3) if math.isfinite(value) else None for key, value in values.items()}


def main() -> None:
    """Fit what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--envs", nargs="+", default=list(WORLDS), choices=list(WORLDS))
    parser.add_argument("--seeds", nargs="+", type=int, help="of those of each environment; all if not given")
    parser.add_argument("--updates", type=int, help="gradient steps; each fit's own number if not given")
    parser.add_argument("--minutes", type=float, default=math.inf, help="wall time after which a fit ends where it is")
    parser.add_argument("--runs", type=Path, default=Path("runs/pixels"))
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    parser.add_argument("--no-table", action="store_true", help="fit only")
    parser.add_argument("--report", action="store_true", help="fit nothing; write the page of what was found so far")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    quiet()
    for env_id in [] if arguments.report else arguments.envs:
        for seed in [seed for seed in WORLDS[env_id].seeds if arguments.seeds is None or seed in arguments.seeds]:
            for family in arguments.families:
                how = FITS[family, env_id]
                how = how if arguments.updates is None else replace(how, updates=arguments.updates)
                made = fit(family, env_id, seed, arguments.runs, how, arguments.minutes)
                short = {"psnr": made["psnr"], "moving parts": made["errors"]["moving parts"]}
                print(f"{family} {env_id} seed {seed}: {made['seconds']} s {short} {made['detections']}", flush=True)
    if not arguments.no_table:
        report(arguments.runs, arguments.out)


if __name__ == "__main__":
    main()
