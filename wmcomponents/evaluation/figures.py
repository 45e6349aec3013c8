"""Dream against reality in one image."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from wmcomponents._extras import require
from wmcomponents.evaluation.horizon import Curve, HorizonErrors
from wmcomponents.evaluation.open_loop import Comparison
from wmcomponents.evaluation.style import COPY, DREAM, INK, MEAN, SHADE, STYLE, saved
from wmcomponents.rendering.labels import component_labels

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
    with matplotlib.rc_context(cast(Any, STYLE)):
        rows = max(2 * len(curves), len(tracks), 3)
        figure = Figure(figsize=(12.5, 1.3 + 1.25 * rows), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        if title:
            figure.suptitle(title, x=0.012, ha="left", fontsize=13, fontweight="bold")
        left, right = cast(Any, figure.subfigures(1, 2, width_ratios=(1.0, 1.25), wspace=0.04))
        _draw_errors(left, errors, curves)
        _draw_tracks(right, comparison, tracks)
        return saved(figure, Path(path))


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
