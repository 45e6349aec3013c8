"""Dreams as moving images: frames side by side, with reward and termination drawn under them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wmcomponents._extras import require
from wmcomponents.evaluation.open_loop import Comparison
from wmcomponents.rendering.renderers import Renderer

FRAME_HEIGHT = 240
"""Height of an environment's frame inside a video, in pixels."""

PADDING, HEADER, FOOTER, TRACE = 14, 30, 88, 30
PAPER, INK, QUIET, BLUE, RED, LINE = "#ffffff", "#1f2933", "#7b8794", "#2563eb", "#c81e1e", "#e4e9ee"


@dataclass(frozen=True)
class Reel:
    """One panel of a video: T + 1 frames and what was received in the T steps between them.

    Attributes:
        name: over the frames.
        frames: uint8 ``(H, W, 3)``, T + 1 of them.
        rewards: T numbers; ``None`` draws no reward.
        chances: probability of ending in each of the T steps; ``None`` if there is none.
        ended: the step (1..T) whose arrival ended the episode; ``None`` if it goes on.
        accent: colour of the name and the reward's trace.
    """

    name: str
    frames: Sequence[np.ndarray]
    rewards: Sequence[float] | None = None
    chances: Sequence[float] | None = None
    ended: int | None = None
    accent: str = INK


def comparison_reels(comparison: Comparison, render: Renderer, *, sample: int = 0) -> list[Reel]:
    """Reality and one of its dreams as two panels, from the state in which the dream starts.

    Args:
        comparison: of :func:`compare`; the model must have a decoder.
        render: draws one observation (:func:`make_renderer`).
        sample: which dream.

    Raises:
        ValueError: if the comparison holds no dreamt observation.
    """
    if not comparison.dream:
        raise ValueError("the model has no decoder, so its dreams cannot be shown as frames.")
    start, steps = comparison.burn_in - 1, comparison.steps
    real = [render({key: value[start + k] for key, value in comparison.real.items()}) for k in range(steps + 1)]
    dream = [render({key: value[sample, k] for key, value in comparison.dream.items()}) for k in range(steps + 1)]
    ended = comparison.dream_end(sample)
    over = steps if ended is None else ended  # a dream that is over stands still
    dream = dream[: over + 1]
    chances = None if comparison.dream_cont is None else (1.0 - comparison.dream_cont[sample, :over]).tolist()
    rewards = None if comparison.dream_reward is None else comparison.dream_reward[sample, :over].tolist()
    return [
        Reel("reality", real, comparison.real_reward.tolist(), None, steps if comparison.terminated else None),
        Reel("dream", dream, rewards, chances, ended, BLUE),
    ]


def side_by_side(reels: Sequence[Reel], *, caption: str = "") -> list[np.ndarray]:
    """Panels next to each other, one image a step.

    Args:
        reels: the panels; a shorter one stands still at its last frame.
        caption: in the upper right corner, before the step, where there is room.

    Returns:
        uint8 ``(H, W, 3)`` images, with even sides, as video codecs need them.

    Raises:
        ValueError: if there is no frame.
        MissingExtraError: if Pillow is not installed.
    """
    if not reels or any(not reel.frames for reel in reels):
        raise ValueError("a video needs at least one panel, and each panel at least one frame.")
    require("PIL", extra="viz")
    images = [[_fitted(each) for each in reel.frames] for reel in reels]
    bounds = _reward_bounds(reels)
    steps = max(len(reel.frames) for reel in reels)
    return [_page(reels, images, step, steps, bounds, caption) for step in range(steps)]


def _fitted(frame: np.ndarray) -> Any:
    """A frame at the common height: enlarged pixel by pixel, reduced smoothly."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(frame))
    width = max(1, round(image.width * FRAME_HEIGHT / image.height))
    width = min(width, 3 * FRAME_HEIGHT)
    how = Image.Resampling.NEAREST if image.height < FRAME_HEIGHT else Image.Resampling.LANCZOS
    return image.resize((width, FRAME_HEIGHT), how)


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _reward_bounds(reels: Sequence[Reel]) -> tuple[float, float]:
    """A common scale for all traces, with zero on it."""
    values = [value for reel in reels for value in (reel.rewards or []) if np.isfinite(value)]
    low, high = min(values, default=0.0), max(values, default=0.0)
    low, high = min(low, 0.0), max(high, 0.0)
    return (low, high) if high > low else (0.0, 1.0)


def _page(
    reels: Sequence[Reel],
    images: Sequence[Sequence[Any]],
    step: int,
    steps: int,
    bounds: tuple[float, float],
    caption: str,
) -> np.ndarray:
    from PIL import Image, ImageDraw

    widths = [max(row[0].width, 190) for row in images]
    width = sum(widths) + PADDING * (len(reels) + 1)
    height = HEADER + FRAME_HEIGHT + FOOTER
    page = Image.new("RGB", (width + width % 2, height + height % 2), PAPER)
    draw = ImageDraw.Draw(page)
    x = PADDING
    for reel, row, panel in zip(reels, images, widths, strict=True):
        draw.text((x, HEADER / 2 + 1), reel.name, fill=reel.accent, font=_font(16), anchor="lm")
        inset = x + (panel - row[0].width) // 2
        now = min(step, len(row) - 1)
        page.paste(row[now], (inset, HEADER))
        draw.rectangle((inset - 1, HEADER - 1, inset + row[0].width, HEADER + FRAME_HEIGHT), outline=LINE)
        _draw_footer(draw, reel, now, steps, (x, HEADER + FRAME_HEIGHT + 8, panel), bounds)
        x += panel + PADDING
    clock = f"{caption}   step {step}" if caption else f"step {step}"
    room = widths[-1] - draw.textlength(reels[-1].name, font=_font(16)) - PADDING
    if draw.textlength(clock, font=_font(13)) > room:
        clock = f"step {step}"
    draw.text((width - PADDING, HEADER / 2 + 1), clock, fill=QUIET, font=_font(13), anchor="rm")
    return np.asarray(page)


def _draw_footer(
    draw: Any, reel: Reel, now: int, steps: int, place: tuple[int, int, int], bounds: tuple[float, float]
) -> None:
    """The trace of the reward so far, its sum, and the chance of ending or the end."""
    left, top, width = place
    right = left + width - 1
    first, second = top + TRACE + 16, top + TRACE + 34
    if reel.rewards is not None:
        low, high = bounds

        def spot(k: int, value: float) -> tuple[float, float]:
            share = (np.clip(value, low, high) - low) / (high - low)
            return left + (k + 1) * (width - 1) / max(steps - 1, 1), top + TRACE - float(share) * TRACE

        zero = spot(0, 0.0)[1]
        draw.line((left, zero, right, zero), fill=LINE, width=1)
        points = [spot(k, value) for k, value in enumerate(reel.rewards[:now])]
        if len(points) > 1:
            draw.line(points, fill=reel.accent, width=2)
        if points:
            px, py = points[-1]
            draw.ellipse((px - 2.5, py - 2.5, px + 2.5, py + 2.5), fill=reel.accent)
        total = float(np.sum(reel.rewards[:now]))
        draw.text((left, first), f"return {_short(total)}", fill=INK, font=_font(14), anchor="lm")
        if points:
            draw.text((left, second), f"reward {reel.rewards[now - 1]:.2f}", fill=QUIET, font=_font(12), anchor="lm")
    if reel.ended is not None and now >= reel.ended:
        draw.text((right, first), "terminated", fill=RED, font=_font(14), anchor="rm")
    if reel.chances is not None and now > 0:
        chance = f"P(end) {100 * reel.chances[now - 1]:.0f} %"
        draw.text((right, second), chance, fill=QUIET, font=_font(12), anchor="rm")


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}"
