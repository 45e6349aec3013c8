"""Small charts as SVG text: they stand in a page without scripts, sharp at every size."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from wmcomponents.evaluation.style import COPY, DREAM, MEAN

WIDTH, HEIGHT = 430, 236
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 36
GRID, QUIET = "#e4e9ee", "#52606d"
Values = Sequence[float | None]


class Line(NamedTuple):
    """One curve.

    Attributes:
        label: in the legend.
        values: at x = ``first``, ``first`` + 1, ...; ``None`` leaves a gap.
        color: of the line.
        low: lower edge of its band.
        high: upper edge.
        dash: as SVG writes it; empty draws it whole.
        width: of the line.
    """

    label: str
    values: Values
    color: str
    low: Values | None = None
    high: Values | None = None
    dash: str = ""
    width: float = 2.2


def model_line(band: dict[str, Values], label: str = "model", color: str = DREAM) -> Line:
    """A model's curve with its band."""
    return Line(label, band["mean"], color, band["low"], band["high"])


def baseline_line(band: dict[str, Values], name: str) -> Line:
    """A baseline's curve, without a band: ``"copy"`` or ``"mean"``."""
    color, dash, label = {
        "copy": (COPY, "2 3", "copy of the last seen"),
        "mean": (MEAN, "6 3", "mean of the data"),
    }[name]
    return Line(label, band["mean"], color, dash=dash, width=1.8)


def chart(
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    y_label: str,
    first: int = 1,
    shaded: tuple[float, float] | None = None,
    bounds: tuple[float, float] | None = None,
    zero: bool = True,
    log: bool | None = None,
) -> str:
    """Curves over steps, with a legend under the title.

    Args:
        lines: at least one.
        title: over the chart.
        x_label: under it.
        y_label: what is drawn.
        first: x of the first value.
        shaded: a stretch of x that is grey.
        bounds: of y; those of the values if not given.
        zero: whether y begins at zero, where it is not logarithmic.
        log: whether y is logarithmic; where values differ by more than thirty times if not given.
    """
    shown = [value for line in lines for part in (line.values, line.low, line.high) for value in _finite(part)]
    if not shown:
        return _empty(title)
    if log is None:
        means = [value for line in lines for value in _finite(line.values) if value > 1e-9]
        log = zero and bounds is None and len(means) > 1 and min(shown) >= 0 and max(means) > 30 * min(means)
    count = max(len(line.values) for line in lines)
    low, high = bounds or _bounds(lines, shown, zero, log)
    frame = _Frame((first, first + max(count - 1, 1)), (low, high), log)
    parts = [frame.shade(*shaded)] if shaded else []
    parts.append(frame.axes(x_label, y_label, whole=True))
    for line in lines:
        if line.low is not None and line.high is not None:
            parts.append(frame.band(line, first))
    for line in lines:
        dash = f' stroke-dasharray="{line.dash}"' if line.dash else ""
        for points in _runs(line.values, first):
            path = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in points)
            parts.append(
                f'<polyline points="{path}" fill="none" stroke="{line.color}" stroke-width="{line.width}"{dash} '
                f'stroke-linejoin="round"/>'
            )
            if len(points) == 1:
                parts.append(
                    f'<circle cx="{frame.x(points[0][0]):.1f}" cy="{frame.y(points[0][1]):.1f}" r="3" '
                    f'fill="{line.color}"/>'
                )
    return _figure(title, parts, [(line.label, line.color, line.dash) for line in lines])


def scatter(
    points: Sequence[tuple[float, float, str, str]], *, title: str, x_label: str, y_label: str, note: str = ""
) -> str:
    """Points beside the line on which both axes are equal.

    Args:
        points: x, y, colour, and what a pointer over it says.
        title: over the chart.
        x_label: under it.
        y_label: beside it.
        note: in the legend.
    """
    values = [value for x, y, *_ in points for value in (x, y) if math.isfinite(value)]
    if not values:
        return _empty(title)
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 1.0
    frame = _Frame((low - room, high + room), (low - room, high + room), False)
    parts = [frame.axes(x_label, y_label, whole=False)]
    parts.append(
        f'<line x1="{frame.x(low - room):.1f}" y1="{frame.y(low - room):.1f}" x2="{frame.x(high + room):.1f}" '
        f'y2="{frame.y(high + room):.1f}" stroke="{MEAN}" stroke-dasharray="4 3"/>'
    )
    for x, y, color, said in points:
        parts.append(
            f'<circle cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="5" fill="{color}" fill-opacity="0.75">'
            f"<title>{escape(said)}</title></circle>"
        )
    legend = [("the same in both", MEAN, "4 3")]
    return _figure(title, parts, [*legend, (note, points[-1][2], "dot")] if note else legend)


def reliability(bins: Sequence[dict[str, float]], *, title: str, unit: str, bounds: tuple[float, float] | None) -> str:
    """Observed against predicted, group by group; the larger the circle, the more steps it stands for."""
    total = sum(one["count"] for one in bins) or 1
    values = [one[name] for one in bins for name in ("predicted", "observed")]
    low, high = bounds or (min(values), max(values))
    room = 0.05 * (high - low) or 1.0
    frame = _Frame((low - room, high + room), (low - room, high + room), False)
    parts = [frame.axes(f"predicted {unit}", f"observed {unit}", whole=False)]
    parts.append(
        f'<line x1="{frame.x(low):.1f}" y1="{frame.y(low):.1f}" x2="{frame.x(high):.1f}" y2="{frame.y(high):.1f}" '
        f'stroke="{MEAN}" stroke-dasharray="4 3"/>'
    )
    path = " ".join(f"{frame.x(one['predicted']):.1f},{frame.y(one['observed']):.1f}" for one in bins)
    parts.append(f'<polyline points="{path}" fill="none" stroke="{DREAM}" stroke-width="1.6"/>')
    for one in bins:
        size = 3.0 + 9.0 * (one["count"] / total) ** 0.5
        parts.append(
            f'<circle cx="{frame.x(one["predicted"]):.1f}" cy="{frame.y(one["observed"]):.1f}" r="{size:.1f}" '
            f'fill="{DREAM}" fill-opacity="0.45"><title>{int(one["count"])} steps: predicted {one["predicted"]:.3g}, '
            f"observed {one['observed']:.3g}</title></circle>"
        )
    return _figure(title, parts, [("as predicted", MEAN, "4 3"), ("model", DREAM, "")])


class _Frame:
    """Data to places on the page."""

    def __init__(self, xs: tuple[float, float], ys: tuple[float, float], log: bool) -> None:
        self.xs, self.log = xs, log
        self.ys = (math.log10(ys[0]), math.log10(ys[1])) if log else ys

    def x(self, value: float) -> float:
        low, high = self.xs
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.ys
        value = math.log10(max(value, 1e-12)) if self.log else value
        spot = (min(max(value, low), high) - low) / (high - low or 1.0)
        return HEIGHT - BOTTOM - spot * (HEIGHT - TOP - BOTTOM)

    def shade(self, first: float, last: float) -> str:
        return (
            f'<rect x="{self.x(first):.1f}" y="{TOP}" width="{self.x(last) - self.x(first):.1f}" '
            f'height="{HEIGHT - TOP - BOTTOM}" fill="#eef2f6"/>'
        )

    def band(self, line: Line, first: int) -> str:
        assert line.low is not None and line.high is not None
        there = [
            (first + i, low, high)
            for i, (low, high) in enumerate(zip(line.low, line.high, strict=True))
            if low is not None and high is not None
        ]
        if not there:
            return ""
        upper = [f"{self.x(x):.1f},{self.y(high):.1f}" for x, _, high in there]
        lower = [f"{self.x(x):.1f},{self.y(low):.1f}" for x, low, _ in reversed(there)]
        return f'<polygon points="{" ".join([*upper, *lower])}" fill="{line.color}" fill-opacity="0.16"/>'

    def axes(self, x_label: str, y_label: str, *, whole: bool) -> str:
        parts = []
        for value in _log_ticks(*self.ys) if self.log else _ticks(*self.ys):
            y = self.y(value)
            parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="{GRID}"/>')
            parts.append(_text(LEFT - 6, y + 3.5, _number(value), "end"))
        for value in _ticks(*self.xs, whole=whole):
            x = self.x(value)
            parts.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM}" stroke="{GRID}"/>')
            parts.append(_text(x, HEIGHT - BOTTOM + 14, _number(value), "middle"))
        parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5, x_label, "middle"))
        middle = (TOP + HEIGHT - BOTTOM) / 2
        parts.append(
            f'<text x="11" y="{middle:.0f}" transform="rotate(-90 11 {middle:.0f})" text-anchor="middle">'
            f"{escape(y_label)}</text>"
        )
        return "".join(parts)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _figure(title: str, parts: Sequence[str], legend: Sequence[tuple[str, str, str]]) -> str:
    marks = []
    for label, color, dash in legend:
        if not label:
            continue
        stroke = f' stroke-dasharray="{dash}"' if dash and dash != "dot" else ""
        mark = (
            f'<circle cx="9" cy="5" r="4" fill="{color}"/>'
            if dash == "dot"
            else f'<line x1="0" y1="5" x2="18" y2="5" stroke="{color}" stroke-width="2.2"{stroke}/>'
        )
        marks.append(f'<span><svg width="18" height="10" aria-hidden="true">{mark}</svg>{escape(label)}</span>')
    keys = f'<div class="legend">{"".join(marks)}</div>' if marks else ""
    return (
        f'<figure><figcaption>{escape(title)}</figcaption>{keys}<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}" fill="{QUIET}" font-size="10.5">{"".join(parts)}</svg></figure>'
    )


def _empty(title: str) -> str:
    return f'<figure><figcaption>{escape(title)}</figcaption><p class="quiet">Nothing to draw.</p></figure>'


def _finite(values: Values | None) -> list[float]:
    return [value for value in values or () if value is not None and math.isfinite(value)]


def _runs(values: Values, first: int) -> list[list[tuple[int, float]]]:
    """Stretches of values without a gap."""
    runs: list[list[tuple[int, float]]] = [[]]
    for place, value in enumerate(values, first):
        if value is not None and math.isfinite(value):
            runs[-1].append((place, value))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _bounds(lines: Sequence[Line], shown: Sequence[float], zero: bool, log: bool) -> tuple[float, float]:
    if log:
        positive = [value for value in shown if value > 1e-9]
        return min(positive) * 0.85, max(positive) * 1.2
    low, high = min(shown), max(shown)
    # One wild edge of a band must not flatten the curves.
    means = [value for line in lines for value in _finite(line.values)]
    high = min(high, max(means) + 1.5 * (max(means) - min(min(means), 0.0 if zero else min(means))) + 1e-12)
    room = 0.06 * (high - low) or max(abs(high), 1.0) * 0.1
    return (0.0 if zero and low >= 0 else low - room), high + room


def _ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    span = high - low
    step = 10.0 ** math.floor(math.log10(span / 4.0)) if span > 0 else 1.0
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 6.0)
    step = max(1.0, step) if whole else step
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, int(math.floor(high / step + 1e-9)) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    marks = [m * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for m in (1, 2, 5)]
    inside = [mark for mark in marks if low <= math.log10(mark) <= high]
    tens = [mark for mark in inside if abs(math.log10(mark) - round(math.log10(mark))) < 1e-9]
    return tens if len(tens) >= 3 else inside


def _number(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:.0e}".replace("e-0", "e-") if abs(value) < 1e-3 else f"{value:.6g}"
