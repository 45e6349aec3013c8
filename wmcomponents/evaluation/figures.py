"""Dream against reality in one image."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from wmcomponents._extras import require
from wmcomponents._whole import written_whole
from wmcomponents.evaluation.horizon import Curve, HorizonErrors
from wmcomponents.evaluation.open_loop import Comparison
from wmcomponents.rendering.labels import component_labels
from wmcomponents.rendering.renderers import Renderer

INK, DREAM, COPY, MEAN, SHADE = "#1f2933", "#2563eb", "#d97706", "#9aa5b1", "#eef2f6"
STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9aa5b1",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e9ee",
    "grid.linewidth": 0.7,
    "xtick.color": "#52606d",
    "ytick.color": "#52606d",
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.8,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}
LARGEST_OVERLAY = 6
"""Components of an observation drawn at most."""

FEWEST_ROWS = 8
"""Real sequences that an error is drawn of at least; fewer say little."""

ENDING = "chance of ending"

FLAT = 1e-9
"""An error below this is zero, and not drawn on a logarithmic axis."""


def horizon_figure(
    errors: HorizonErrors,
    comparison: Comparison,
    path: str | Path,
    *,
    env_id: str | None = None,
    title: str | None = None,
) -> Path:
    """A PNG of dream against reality: prediction error by horizon on the left, one episode overlaid on the right.

    On the left each panel has both baselines, as far as eight sequences are left. On the right every component of a
    vector observation is drawn, the six that vary most if there are more; where the observation is an image or a
    board, the reward and the chance of ending. With several dreams in the comparison the band holds 80 % of them and
    the line is their median.

    Args:
        errors: of :func:`horizon_errors`.
        comparison: of :func:`compare`, in which the burn-in is shaded.
        path: the file.
        env_id: names and units of components, where they are known.
        title: over the figure.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    require("matplotlib", extra="viz")
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    curves = _error_panels(errors)
    tracks = _tracks(comparison, env_id)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(cast(Any, STYLE)):
        rows = max(2 * len(curves), len(tracks), 3)
        figure = Figure(figsize=(12.5, 1.3 + 1.25 * rows), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        if title:
            figure.suptitle(title, x=0.012, ha="left", fontsize=13, fontweight="bold")
        left, right = cast(Any, figure.subfigures(1, 2, width_ratios=(1.0, 1.25), wspace=0.04))
        _draw_errors(left, errors, curves)
        _draw_tracks(right, comparison, tracks)
        with written_whole(path) as file:
            figure.savefig(file, format=path.suffix[1:] or "png")
    return path


def filmstrip(
    comparison: Comparison,
    render: Renderer,
    path: str | Path,
    *,
    columns: int = 10,
    sample: int = 0,
    title: str | None = None,
) -> Path:
    """A PNG of frames: reality in the upper row, the dream below it, at evenly spaced steps.

    Under each frame stands the return so far, and how likely the dream is to end with that step (in reality: whether it
    did). What the model shows after an end that it predicts itself is faded.

    Args:
        comparison: of :func:`compare`; the model must have a decoder.
        render: draws one observation (:func:`make_renderer`).
        path: the file.
        columns: frames in a row.
        sample: which of the comparison's dreams.
        title: over the strip.

    Raises:
        ValueError: if the comparison holds no dreamt observation.
        MissingExtraError: if matplotlib is not installed.
    """
    if not comparison.dream:
        raise ValueError("the model has no decoder, so its dreams cannot be shown as frames.")
    steps = np.unique(np.linspace(0, comparison.steps, columns).round().astype(int))
    start = comparison.burn_in - 1
    real = [render({key: value[start + k] for key, value in comparison.real.items()}) for k in steps]
    dream = [render({key: value[sample, k] for key, value in comparison.dream.items()}) for k in steps]
    over = comparison.dream_end(sample)
    rewards, cont = comparison.dream_reward, comparison.dream_cont
    notes = {
        "reality": outcomes(
            comparison.real_reward, steps.tolist(), comparison.steps if comparison.terminated else None
        ),
        "dream": outcomes(
            None if rewards is None else rewards[sample],
            steps.tolist(),
            over,
            None if cont is None else 1.0 - cont[sample],
        ),
    }
    ended = {} if over is None else {"dream": over}
    return strip({"reality": real, "dream": dream}, path, steps=steps.tolist(), ended=ended, notes=notes, title=title)


def outcomes(
    rewards: np.ndarray | Sequence[float] | None,
    steps: Sequence[int],
    ended: int | None = None,
    chances: np.ndarray | Sequence[float] | None = None,
) -> list[str]:
    """What stands under the frames of a strip: the return so far, and the end or its chance; nothing changes after it.

    Args:
        rewards: of steps 1, 2, ...; ``None`` if there are none.
        steps: of the frames; 0 is the start.
        ended: the step that ended the episode.
        chances: probability of ending in steps 1, 2, ...
    """
    notes = []
    for step in steps:
        step = step if ended is None else min(step, ended)
        words = [] if rewards is None else [f"return {float(np.sum(rewards[:step])):.3g}"]
        if step == ended:
            words.append("terminated")
        elif chances is not None and step > 0:
            words.append(f"P(end) {100 * float(chances[step - 1]):.0f} %")
        notes.append("\n".join(words))
    return notes


def strip(
    rows: Mapping[str, Sequence[np.ndarray]],
    path: str | Path,
    *,
    steps: Sequence[int] | None = None,
    ended: Mapping[str, int] | None = None,
    notes: Mapping[str, Sequence[str]] | None = None,
    title: str | None = None,
) -> Path:
    """A PNG with named rows of frames.

    Args:
        rows: frames uint8 ``(H, W, 3)`` by name; as many in each row.
        path: the file.
        steps: the number over each column; 0, 1, ... if not given.
        ended: the step in which a row's episode ended, by name; frames after it are faded.
        notes: what stands under the frames of a row, by name; at most two lines each.
        title: over the strip.

    Raises:
        ValueError: if there is no frame, or the rows differ in length.
        MissingExtraError: if matplotlib is not installed.
    """
    require("matplotlib", extra="viz")
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lengths = {len(frames) for frames in rows.values()}
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError(f"a strip has rows of one, positive length; got {sorted(lengths)}.")
    count = lengths.pop()
    steps = list(range(count)) if steps is None else list(steps)
    ended, notes = ended or {}, notes or {}
    height, width = next(iter(rows.values()))[0].shape[:2]
    cell = 1.3
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = sum(1 + max(note.count("\n") for note in one) for one in notes.values())
    size = (cell * count + 0.8, cell * height / width * len(rows) + (0.75 if title else 0.35) + 0.16 * lines)
    with matplotlib.rc_context(cast(Any, STYLE)):
        figure = Figure(figsize=size, dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.0, hspace=0.0)  # type: ignore[union-attr]
        axes = figure.subplots(len(rows), count, squeeze=False)
        for line, (name, frames) in zip(axes, rows.items(), strict=True):
            end = ended.get(name, math.inf)
            _draw_row(line, name, frames, [step > end for step in steps], notes.get(name, ()))
        for axis, step in zip(axes[0], steps, strict=True):
            axis.set_title("start" if step == 0 else f"step {step}", loc="center", fontsize=8, fontweight="normal")
        if title:
            figure.suptitle(title, x=0.012, ha="left", fontsize=11, fontweight="bold")
        with written_whole(path) as file:
            figure.savefig(file, format=path.suffix[1:] or "png")
    return path


def _draw_row(
    line: Sequence[Any], name: str, frames: Sequence[np.ndarray], is_over: Sequence[bool], notes: Sequence[str]
) -> None:
    """One row of frames with its name and notes; those behind the end of an episode are faded."""
    for axis, note in zip(line, notes, strict=False):
        axis.set_xlabel(note, fontsize=8, color="#52606d")
    line[0].set_ylabel(name, fontweight="bold", color=DREAM if name == "dream" else INK, fontsize=10)
    for axis, image, over in zip(line, frames, is_over, strict=True):
        smooth = "nearest" if max(image.shape[:2]) <= 300 else "antialiased"
        axis.imshow(image, interpolation=smooth, alpha=0.25 if over else 1.0)
        if over:
            axis.text(0.5, 0.5, "ended", transform=axis.transAxes, ha="center", va="center", fontsize=9)
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
        for spine in axis.spines.values():
            spine.set(visible=True, color="#cbd2d9")


def _error_panels(errors: HorizonErrors) -> list[tuple[str, str, Curve]]:
    """(title, label of the axis, curve) of each panel on the left."""
    panels = []
    by_metric: dict[str, list[Curve]] = {}
    for curve in errors.observation.values():
        by_metric.setdefault(curve.metric, []).append(curve)
    labels = {
        "normalised MSE": "MSE / variance of the data",
        "MSE": "MSE of pixels in [0, 1]",
        "error rate": "share of cells wrong",
    }
    for metric, curves in by_metric.items():
        panels.append(("Observation", labels.get(metric, metric), _average(curves)))
    if errors.reward is not None and max(_finite(errors.reward.mean), default=0.0) > FLAT:
        panels.append(("Reward", "mean absolute error", errors.reward))
    if errors.termination is not None and max(_finite(errors.termination.mean), default=0.0) > FLAT:
        panels.append(("Termination", "Brier score", errors.termination))
    if not panels:  # the data never varies: show what there is
        for name, curve in (("Reward", errors.reward), ("Termination", errors.termination)):
            if curve is not None:
                panels.append((name, curve.metric, curve))
    return panels


def _average(curves: Sequence[Curve]) -> Curve:
    """The mean over several keys of one metric."""

    def mean(lists: Sequence[Sequence[float]]) -> list[float]:
        return np.mean(np.array(lists), axis=0).tolist()

    return Curve(
        curves[0].metric,
        mean([c.model for c in curves]),
        mean([c.copy for c in curves]),
        mean([c.mean for c in curves]),
    )


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if np.isfinite(value)]


def _draw_errors(area: Any, errors: HorizonErrors, panels: Sequence[tuple[str, str, Curve]]) -> None:
    axes = area.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    shown = sum(rows >= FEWEST_ROWS for rows in errors.rows) or errors.horizon
    steps = np.arange(1, shown + 1)
    for axis, (name, label, full) in zip(axes, panels, strict=True):
        curve = Curve(full.metric, full.model[:shown], full.copy[:shown], full.mean[:shown])
        axis.plot(steps, curve.mean, color=MEAN, linestyle=(0, (4, 2)), label="mean of the data")
        axis.plot(steps, curve.copy, color=COPY, linestyle=(0, (1, 1)), label="copy of the last seen")
        axis.plot(steps, curve.model, color=DREAM, linewidth=2.4, label="world model")
        values = [value for value in _finite([*curve.model, *curve.copy, *curve.mean]) if value > FLAT]
        if name != "Termination" and values and max(values) > 30 * min(values):
            axis.set_yscale("log")
        else:
            axis.set_ylim(bottom=0.0)
        axis.set(title=f"{name}: error by horizon", ylabel=label)
        axis.margins(x=0.01)
    first, last = errors.rows[0], errors.rows[shown - 1]
    note = (
        f"\n({first} sequences at step 1, {last} at step {shown}; the others' episodes ended)" if last < first else ""
    )
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    axes[-1].set_xlabel(f"imagined steps since the last real observation{note}")
    handles, labels = axes[0].get_legend_handles_labels()
    area.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=3, columnspacing=1.4, handlelength=2.2)


Track = tuple[str, np.ndarray, np.ndarray | None]
"""A label, real values ``[P + K]`` (NaN where there are none), dreamt values ``[S, K + 1]`` or none."""


def _tracks(comparison: Comparison, env_id: str | None) -> list[Track]:
    tracks: list[Track] = []
    for key, real in comparison.real.items():
        if real.ndim > 2 or real.dtype == np.uint8:
            continue
        flat = real.reshape(len(real), -1).astype(np.float64)
        dream = comparison.dream.get(key)
        for i, label in enumerate(component_labels(key, real.shape[1:], env_id)):
            values = None if dream is None else dream.reshape(*dream.shape[:2], -1)[..., i].astype(np.float64)
            tracks.append((label, flat[:, i], values))
    if len(tracks) > LARGEST_OVERLAY:
        varying = sorted(range(len(tracks)), key=lambda i: -float(np.std(tracks[i][1])))[:LARGEST_OVERLAY]
        tracks = [tracks[i] for i in sorted(varying)]
    return tracks or _outcome_tracks(comparison)


def _outcome_tracks(comparison: Comparison) -> list[Track]:
    """Reward so far and the chance of ending, for observations that are no numbers."""
    before = np.full(comparison.burn_in, np.nan)

    def with_start(values: np.ndarray | None, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray | None:
        if values is None:
            return None
        return np.concatenate([np.full((len(values), 1), np.nan), function(values)], axis=1)

    ends = np.zeros(comparison.steps)
    ends[-1:] = float(comparison.terminated)
    reward = comparison.real_reward
    return [
        ("reward", np.concatenate([before, reward]), with_start(comparison.dream_reward, lambda r: r)),
        ("reward so far", np.concatenate([before, reward.cumsum()]), with_start(comparison.dream_reward, _so_far)),
        (ENDING, np.concatenate([before, ends]), with_start(comparison.dream_cont, lambda c: 1.0 - c)),
    ]  # fmt: skip


def _so_far(values: np.ndarray) -> np.ndarray:
    return values.cumsum(1)


def _draw_tracks(area: Any, comparison: Comparison, tracks: Sequence[Track]) -> None:
    axes = area.subplots(len(tracks), 1, sharex=True, squeeze=False)[:, 0]
    start = comparison.burn_in - 1
    times = np.arange(comparison.burn_in + comparison.steps) - start
    ahead = np.arange(comparison.steps + 1)
    for axis, (label, real, dream) in zip(axes, tracks, strict=True):
        if start > 0:
            axis.axvspan(-start, 0, color=SHADE, zorder=0, linewidth=0, label="seen by the filter")
        axis.plot(times, real, color=INK, linewidth=2.0, label="reality")
        if dream is not None:
            if len(dream) > 2:
                low, high = np.quantile(dream, (0.1, 0.9), axis=0)
                axis.fill_between(ahead, low, high, color=DREAM, alpha=0.16, linewidth=0, label="80 % of the dreams")
            axis.plot(
                ahead, np.median(dream, axis=0), color=DREAM, linewidth=1.8,
                label="dream" if len(dream) < 3 else "median dream",
            )  # fmt: skip
        if label == ENDING:
            axis.set_ylim(-0.05, 1.05)
        axis.axvline(0, color="#7b8794", linewidth=0.9)
        axis.set_title(label, fontsize=9)
        axis.margins(x=0.01)
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    axes[-1].set_xlabel("step since the dream began; from there on it is given the real actions only")
    handles, labels = axes[0].get_legend_handles_labels()
    area.legend(handles, labels, loc="outside lower center", ncols=4, columnspacing=1.4, handlelength=2.0)
