"""What masked pretraining puts into features: positions and velocities read off them by a linear map.

``python -m benchmarks.probes`` collects frames of a real environment, pretrains MAE, I-JEPA and V-JEPA on them, reads
the true state off their frozen features by ridge regression on held-out episodes, and writes
``docs/benchmarks/probes.json`` and ``probes.md``. Everything is kept in ``runs/probes``: what was broken off goes on.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Bounded, Composite

from benchmarks.fitting import kept, kept_replay
from wmcomponents.data import DrawMasks, RealCollector, make_env, make_replay
from wmcomponents.models import PRETRAINING, MaskedModel, make_pretraining
from wmcomponents.models.loading import load_pretraining
from wmcomponents.nn import EvalMode
from wmcomponents.training import Trainer, seed_everything

OUT, RUNS = Path("docs/benchmarks"), Path("runs/probes")
ENV, SIDE, REPEAT_PROBABILITY = "Acrobot-v1", 64, 0.5
FRAMES = {"train": 6_000, "held out": 3_000}
POSITIONS = {"cos 1": 0, "sin 1": 1, "cos 2": 2, "sin 2": 3}
VELOCITIES = {"velocity 1": 4, "velocity 2": 5}
TOLD = {"first angle": ("cos 1", "sin 1"), "second angle": ("cos 2", "sin 2"), "velocities": tuple(VELOCITIES)}
"""What a column of the page is the mean of."""

CLIP, SEGMENT = 4, 8
"""Frames that a velocity is read off, and consecutive frames of which the states to read are taken."""

SEGMENTS = {"few": 16, "many": 128}
"""With true states: segments that the linear map is fitted to."""

RIDGE = tuple(10.0**power for power in range(-7, 0))
"""Penalties, as shares of the summed squares of the features; a quarter of the states chooses."""


class Pretraining(NamedTuple):
    """How a family is pretrained.

    Attributes:
        updates: gradient steps; the schedules end with them.
        batch: sequences in a batch.
        changes: entries of the config that differ from the preset.
    """

    updates: int
    batch: int
    changes: dict[str, Any]


FAMILIES = {
    "MAE": Pretraining(4_000, 32, {}),
    "IJEPA": Pretraining(2_000, 32, {}),
    "VJEPA": Pretraining(2_000, 16, {"frames": CLIP}),
}
NAMES = {"pixels": "pixels", "random": "random ViT", "MAE": "MAE", "IJEPA": "I-JEPA", "VJEPA": "V-JEPA"}


def acrobot() -> Any:
    """The environment, which shows its picture and its true state."""
    import gymnasium
    from gymnasium.wrappers import AddRenderObservation

    env = gymnasium.make(ENV, render_mode="rgb_array")
    return AddRenderObservation(env, render_only=False, render_key="pixels", obs_key="state")


def data(which: str, seed: int, length: int, batch: int, runs: Path) -> Any:
    """Real steps of a random policy that repeats its actions at times, collected once and kept.

    Args:
        which: ``"train"`` or ``"held out"``, which have no episode in common.
        seed: of environment and policy.
        length: steps of a sampled sequence.
        batch: sequences in a sample.
        runs: where they are kept.
    """
    seed = 2 * seed + (which == "held out")
    env = make_env(acrobot, image_size=SIDE, seed=seed)
    steps = FRAMES[which]
    replay = make_replay(steps, env, sequence_length=length, batch_size=batch, seed=seed, print_fn=None)

    def record() -> None:
        RealCollector(env, replay, action_repeat_prob=REPEAT_PROBABILITY, seed=seed).collect(steps)

    kept_replay(replay, runs / f"data-{seed}-{steps}", record, env=ENV)
    env.close()
    return replay


def pretrained(family: str, seed: int, share: float, runs: Path) -> dict[str, Any]:
    """Pretrain, or go on, and save the model; what it took."""
    how = FAMILIES[family]
    updates = max(20, round(share * how.updates))
    replay = data("train", seed, CLIP if family == "VJEPA" else 1, how.batch, runs)
    seed_everything(seed)
    spec = Composite(pixels=Bounded(0, 255, (SIDE, SIDE, 3), dtype=torch.uint8))
    warmup = min(100, updates // 5)
    model = make_pretraining(family, "tiny", spec, steps=updates, warmup=warmup, **how.changes)
    replay.append_transform(DrawMasks(model.masks()))
    out = runs / f"{family}-{seed}-{updates}"
    trainer = Trainer(model, replay, out=out, logger="csv", checkpoint_seconds=60.0, progress=False, seed=seed)
    first, begun, wall = trainer.steps, time.process_time(), time.perf_counter()
    losses = trainer.train(updates)
    taken = max(1, trainer.steps - first)
    used, passed = time.process_time() - begun, time.perf_counter() - wall
    model.save_pretrained(out / "model")
    return {
        "family": family,
        "seed": seed,
        "updates": updates,
        "batch": how.batch,
        "frames": model.frames,
        "parameters": sum(p.numel() for p in model.parameters()),
        "ms_per_update": round(1e3 * used / taken, 2),
        "cpu_minutes": round(used / taken * updates / 60, 2),
        "wall_minutes": round(passed / taken * updates / 60, 2),
        "losses": {key: float(f"{value:.4g}") for key, value in losses.items()},
    }


def segments(which: str, seed: int, count: int, runs: Path) -> TensorDictBase:
    """Consecutive frames ``[count, SEGMENT]`` with their true states."""
    replay = data(which, seed, SEGMENT, count, runs)
    replay.set_rng(torch.Generator().manual_seed(seed))
    return replay.sample().select("pixels", "state", "is_init")


def windows(values: Tensor, whole: Tensor) -> Tensor:
    """What lies in each whole clip of segments ``[N, SEGMENT, ...]``, ``[M, CLIP, ...]``."""
    cut = values.unfold(1, CLIP, 1).movedim(-1, 2)
    return cut[whole]


def whole_clips(is_init: Tensor) -> Tensor:
    """Which clips lie in one episode, bool ``[N, SEGMENT - CLIP + 1]``."""
    return ~is_init.squeeze(-1).unfold(1, CLIP, 1)[..., 1:].any(-1)


class Encoded(NamedTuple):
    """Features by the way they are read: of frames ``[N, SEGMENT, F]``, of clips ``[M, F]``."""

    frames: dict[str, Tensor]
    clips: dict[str, Tensor]


@torch.no_grad()
def encoded(model: MaskedModel | None, pixels: Tensor, whole: Tensor) -> Encoded:
    """Features of frames, and of clips; of pixels themselves without a model."""
    if model is None:
        flat = (pixels.float() / 255 - 0.5).flatten(2)
        return Encoded({"patches": flat}, {"patches": windows(flat, whole).flatten(1)})
    with EvalMode(model):
        tokens = in_parts(model.as_frozen_encoder().compute, pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2])
        if model.frames > 1:
            found = in_parts(model.as_encoder().compute, windows(pixels, whole))
            clips = {"patches": found.flatten(1), "mean": found.mean(1)}
        else:
            cut = windows(tokens, whole)
            clips = {"patches": cut.flatten(1), "mean": cut.mean(2).flatten(1)}
    return Encoded({"patches": tokens.flatten(2), "mean": tokens.mean(2)}, clips)


def in_parts(compute: Callable[[Tensor], Any], values: Tensor, rows: int = 128) -> Tensor:
    """What a function gives for so many rows at a time."""
    return torch.cat([compute(part) for part in values.split(rows)])


class Kernels(NamedTuple):
    """Inner products of features: among the old ``[N, N]``, and of new with old ``[M, N]``."""

    old: Tensor
    new: Tensor

    @classmethod
    def of(cls, x: Tensor, new_x: Tensor) -> "Kernels":
        """Those of features ``[N, F]`` and ``[M, F]``, of which parts are summed in float64."""
        rows = torch.cat([x, new_x]) - x.mean(0)
        gram = torch.zeros(len(rows), len(x), dtype=torch.float64)
        for part in rows.split(1024, 1):
            gram += (part @ part[: len(x)].T).double()
        return cls(gram[: len(x)], gram[len(x) :])

    def parted(self, count: int) -> "Kernels":
        """The first so many of the old as old, those behind them as new."""
        return Kernels(self.old[:count, :count], self.old[count:, :count])

    def first(self, count: int) -> "Kernels":
        """With the first so many of the old alone."""
        return Kernels(self.old[:count, :count], self.new[:, :count])

    def predictions(self, y: Tensor) -> Tensor:
        """Of ridge regression with an intercept, for each penalty and each new row, ``[P, M, K]``."""
        level, rows = y.double().mean(0), self.old.mean(0)
        old = self.old - rows - rows.unsqueeze(1) + rows.mean()
        new = self.new - self.new.mean(1, keepdim=True) - rows + rows.mean()
        found = []
        for share in RIDGE:
            penalty = share * old.trace() * torch.eye(len(old), dtype=old.dtype)
            weights = torch.cholesky_solve(y.double() - level, torch.linalg.cholesky(old + penalty))
            found.append(new @ weights + level)
        return torch.stack(found)


def ridge_r2(kernels: Kernels, y: Tensor, new_y: Tensor) -> Tensor:
    """R^2 on new data of a linear map, whose penalty the last quarter of the old data chooses, for each number."""
    part = len(y) - len(y) // 4
    tried = torch.stack([r2(found, y[part:]) for found in kernels.parted(part).predictions(y[:part])])
    found = torch.stack([r2(found, new_y) for found in kernels.predictions(y)])
    return found.gather(0, tried.argmax(0, keepdim=True)).squeeze(0)


def r2(predicted: Tensor, true: Tensor) -> Tensor:
    """Share of the variance of each number that is explained; 0 is the mean's."""
    true = true.double()
    return 1 - (predicted - true).square().sum(0) / (true - true.mean(0)).square().sum(0)


def probed(name: str, model: MaskedModel | None, clips_by: MaskedModel | None, seed: int, runs: Path) -> dict[str, Any]:
    """R^2 of positions off frames and of velocities off clips, with few and with many true states."""
    most = max(SEGMENTS.values())
    sets = [segments("train", seed, most, runs), segments("held out", seed, most, runs)]
    whole = [whole_clips(one["is_init"]) for one in sets]
    features = [encoded(model, one["pixels"], is_whole) for one, is_whole in zip(sets, whole, strict=True)]
    clips = features
    if clips_by is not model:
        clips = [encoded(clips_by, one["pixels"], is_whole) for one, is_whole in zip(sets, whole, strict=True)]
    places, speeds = list(POSITIONS.values()), list(VELOCITIES.values())
    states = [one["state"] for one in sets]
    last = [windows(state, is_whole)[:, -1, speeds] for state, is_whole in zip(states, whole, strict=True)]
    rows: dict[str, Any] = {}
    for read in features[0].frames:
        still = Kernels.of(*(one.frames[read].flatten(0, 1) for one in features))
        moving = Kernels.of(*(one.clips[read] for one in clips))
        truth = [state[:, :, places].flatten(0, 1) for state in states]
        for words, count in SEGMENTS.items():
            frames, cut = SEGMENT * count, int(whole[0][:count].sum())
            position = ridge_r2(still.first(frames), truth[0][:frames], truth[1])
            velocity = ridge_r2(moving.first(cut), last[0][:cut], last[1])
            values = [round(float(value), 4) for value in (*position, *velocity)]
            rows[f"{read}, {words}"] = dict(zip((*POSITIONS, *VELOCITIES), values, strict=True))
    return {"representation": name, "seed": seed, "r2": rows}


def measure(seed: int, share: float, runs: Path) -> dict[str, Any]:
    """Everything of one seed."""
    fits = [kept(f"{f}-{seed}-{share}", lambda f=f: pretrained(f, seed, share, runs), runs / "fits") for f in FAMILIES]
    places = {fit["family"]: f"{fit['family']}-{seed}-{fit['updates']}" for fit in fits}
    models = {family: load_pretraining(runs / place / "model") for family, place in places.items()}
    spec = models["MAE"].observation_spec
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = {name: make_pretraining(name, "tiny", spec, **FAMILIES[name].changes).eval() for name in PRETRAINING}
    shown: dict[str, tuple[MaskedModel | None, MaskedModel | None]] = {
        "pixels": (None, None),
        "random": (fresh["MAE"], fresh["VJEPA"]),
        **{name: (model, model) for name, model in models.items()},
    }
    rows = [
        kept(f"{name}-{seed}-{share}", lambda n=name: probed(n, *shown[n], seed, runs), runs / "probes")
        for name in shown
    ]
    return {"seed": seed, "fits": fits, "probes": rows}


def mean_of(row: dict[str, float], names: Any) -> float:
    """The mean R^2 of some numbers."""
    return sum(row[name] for name in names) / len(names)


def told(result: dict[str, Any], read: str) -> list[str]:
    """How the best pretrained features stand beside the others with many states, a line for each column."""
    lines = []
    for what, names in TOLD.items():
        found: dict[str, list[float]] = {}
        for run in result["runs"]:
            for probe in run["probes"]:
                if f"{read}, many" in probe["r2"]:
                    value = mean_of(probe["r2"][f"{read}, many"], names)
                    found.setdefault(probe["representation"], []).append(value)
        means = {name: sum(values) / len(values) for name, values in found.items()}
        best = max((name for name in FAMILIES if name in means), key=lambda name: means[name])
        others = ", ".join(f"{NAMES[name]} {means[name]:.2f}" for name in ("random", "pixels") if name in means)
        lines.append(f"- {what.capitalize()}, many states: {NAMES[best]} {means[best]:.2f}, {others}.")
    return lines


def page(result: dict[str, Any]) -> str:
    """The page of what was measured."""
    lines = [
        "# What masked pretraining puts into features",
        "",
        f"True angles of {result['env']}, read off one frame, and angular velocities, read off {CLIP} frames, by a "
        "linear map of frozen features: R^2 on",
        "episodes that nothing was fitted to, 1 is perfect and 0 what their mean would reach.",
        "",
    ]
    for read, words in (("patches", "All patches side by side"), ("mean", "The mean of the patches")):
        lines += [f"## {words}", "", HEADER, f"|---{'|---' * len(TOLD) * len(SEGMENTS)}|"]
        for name in NAMES:
            found = [
                probe["r2"]
                for run in result["runs"]
                for probe in run["probes"]
                if probe["representation"] == name and f"{read}, few" in probe["r2"]
            ]
            if found:
                cells = [
                    spread([mean_of(rows[f"{read}, {count}"], names) for rows in found])
                    for names in TOLD.values()
                    for count in SEGMENTS
                ]
                lines.append(f"| {NAMES[name]} | {' | '.join(cells)} |")
        lines += ["", *told(result, read), ""]
    lines += [
        "## What it took",
        "",
        "| model | updates | parameters | ms an update | CPU minutes |",
        "|---|---|---|---|---|",
    ]
    for run in result["runs"]:
        for fit in run["fits"]:
            lines.append(
                f"| {NAMES[fit['family']]}, seed {fit['seed']} | {fit['updates']:,} of {fit['batch']} | "
                f"{fit['parameters']:,} | {fit['ms_per_update']:.0f} | {fit['cpu_minutes']:.1f} |"
            )
    few, many = (SEGMENTS[name] for name in ("few", "many"))
    return "\n".join(
        [
            *lines,
            "",
            "## How it was measured",
            "",
            f"`{result['command']}` on {result['machine']}, one thread. {FRAMES['train']:,} frames of 64x64 pixels of",
            "a random policy that repeats its actions at times; `tiny` presets: ViTs of 4 blocks of 96, patches of 8.",
            f"The map is fitted to {few} or {many} segments of {SEGMENT} consecutive frames with their states, a",
            "quarter of which choose the penalty; pixels pass the same regression. The random ViT has MAE's network,",
            "for clips V-JEPA's. MAE and I-JEPA encode each frame of a clip by itself; V-JEPA sees a single",
            "frame as a clip that stands still. The first angle's cosine and sine are where the first arm ends, nearly",
            "linear in the picture; the second angle is relative to the first, and is not. Held-out episodes are",
            "few and swing otherwise, which bounds every row alike. Without `--share` each model is pretrained for",
            "about five CPU minutes.",
            "",
        ]
    )  # fmt: skip


HEADER = f"| features | {' | '.join(f'{what}, {count} states' for what in TOLD for count in SEGMENTS)} |"


def spread(values: list[float]) -> str:
    """A mean over seeds, with the least and the greatest where there are several."""
    middle = sum(values) / len(values)
    return f"{middle:.3f}" + (f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else "")


def main(arguments: list[str] | None = None) -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--share", type=float, default=1.0, help="of the updates; the schedules shrink with them")
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    runs = [measure(seed, given.share, given.runs) for seed in given.seeds]
    command = "python -m benchmarks.probes" + (f" --share {given.share}" if given.share != 1 else "")
    result = {
        "env": ENV,
        "command": command + (f" --seeds {' '.join(map(str, given.seeds))}" if given.seeds != [0] else ""),
        "machine": f"{platform.machine()}, torch {torch.__version__}",
        "runs": runs,
    }
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "probes.json").write_text(json.dumps(result, indent=1) + "\n")
    (given.out / "probes.md").write_text(page(result))


if __name__ == "__main__":
    main()
