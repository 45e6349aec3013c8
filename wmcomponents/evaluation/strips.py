"""Frames beside and below each other in one image."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from wmcomponents._extras import require
from wmcomponents.evaluation.open_loop import Comparison
from wmcomponents.evaluation.style import DREAM, INK, STYLE, saved
from wmcomponents.rendering.renderers import Renderer

CELL = 1.3
"""Width of a frame, in inches."""


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

    count = _common_length(rows)
    steps = list(range(count)) if steps is None else list(steps)
    ended, notes = ended or {}, notes or {}
    height, width = next(iter(rows.values()))[0].shape[:2]
    lines = sum(1 + max(note.count("\n") for note in one) for one in notes.values())
    size = (CELL * count + 0.8, CELL * height / width * len(rows) + (0.75 if title else 0.35) + 0.16 * lines)
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
        return saved(figure, Path(path))


def _common_length(rows: Mapping[str, Sequence[np.ndarray]]) -> int:
    lengths = {len(frames) for frames in rows.values()}
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError(f"a strip has rows of one, positive length; got {sorted(lengths)}.")
    return lengths.pop()


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
