"""The figures of the benchmark pages, drawn from the numbers beside them: ``python -m benchmarks.plots``."""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from benchmarks.openings import rows_of

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "benchmarks"
TEXT, OURS, THEIRS, COMPILED = "#7b8794", "#3b82f6", "#f59e0b", "#93b8f9"
"""Grey that is read on white and on black: a page may be either."""

STYLE = {
    "font.size": 9,
    "text.color": TEXT,
    "axes.edgecolor": TEXT,
    "axes.labelcolor": TEXT,
    "axes.titlecolor": TEXT,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "grid.color": TEXT,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.labelcolor": TEXT,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.hashsalt": "wmcomponents",  # the same numbers, the same file
}
SIZES = ((1, TEXT, "one dream"), (64, COMPILED, "64 dreams at once"), (1024, OURS, "1,024 dreams at once"))
BASELINES = {"copy": (0, (1, 1)), "mean": (0, (4, 2))}


def speed(result: dict[str, Any], figure: Figure) -> None:
    """How often a second TorchRL's work is done here, and what an adapter costs."""
    left, right = figure.subplots(1, 2, width_ratios=(1.7, 1))
    pairs = []
    for section, work, label in (
        ("update", "world-model update 16x64", "world-model update"),
        ("observe", "observe 16x64, forward+backward", "filter, with gradients"),
        ("observe", "observe 16x64, forward", "filter"),
        ("imagination", "imagine 15 steps, B=64", "imagine, 64 dreams"),
        ("imagination", "imagine 15 steps, B=1024", "imagine, 1,024 dreams"),
    ):
        for size in ("small", "12M"):
            found = [row for row in rows_of(result, section) if (row["work"], row["config"]) == (work, size)]
            rate = {row["variant"]: 1 / row["ms"] for row in found}
            theirs = max((value for name, value in rate.items() if name.startswith("TorchRL")), default=None)
            if theirs and "ours" in rate:
                both = (rate["ours"] / theirs, rate.get("ours, compiled", 0.0) / theirs)
                pairs.append((f"{label} ({size})", *both))
    places = range(len(pairs))
    left.barh(places, [compiled for _, _, compiled in pairs], color=COMPILED, height=0.62, label="compiled")
    left.barh(places, [ours for _, ours, _ in pairs], color=OURS, height=0.62, label="eager")
    left.axvline(1.0, color=THEIRS, linewidth=1.6, label="TorchRL, the better of eager and compiled")
    left.set_yticks(places, [label for label, *_ in pairs])
    left.invert_yaxis()
    left.set(title="Throughput over TorchRL's", xlabel="times as fast; longer is better")
    _legend(figure, left, loc="outside lower left", ncols=3, fontsize=8)
    _overhead(result, right)


def _overhead(result: dict[str, Any], axis: Any) -> None:
    eager = [row for row in rows_of(result, "overhead") if row.get("ratio") and "compiled" not in row["variant"]]
    rows = [row for row in eager if row["work"].startswith("one step, B=")]
    batches = sorted({int(row["work"].rpartition("=")[2]) for row in rows})
    for name in dict.fromkeys(row["variant"] for row in rows):
        ratio = {int(row["work"].rpartition("=")[2]): row["ratio"] for row in rows if row["variant"] == name}
        axis.plot(list(ratio), list(ratio.values()), marker="o", markersize=3.5, label=name)
    axis.axhline(1.0, color=TEXT, linewidth=1, linestyle=(0, (4, 2)))
    axis.set(
        xscale="log", yscale="log", title="Time of a step over a plain loop's", xlabel="dreams at once (tiny model)"
    )
    axis.set_xticks(batches, [f"{batch:,}" for batch in batches])
    _plain(axis.yaxis, (1, 1.5, 2, 3, 5))
    axis.minorticks_off()
    _legend(axis, fontsize=8, loc="upper right")
    axis.grid(axis="y")


def families(result: dict[str, Any], figure: Figure) -> None:
    """Steps a second of every family's dream."""
    rows = [row for row in rows_of(result, "steps") if row["variant"] == "gymnasium"]
    names = list(dict.fromkeys(row["work"].partition(",")[0] for row in rows))
    axes = figure.subplots(1, 2, sharey=True)
    for axis, small in zip(axes, (True, False), strict=True):
        for place, (batch, colour, words) in enumerate(SIZES):
            found = {
                row["work"].partition(",")[0]: row["rate"]
                for row in rows
                if (row["config"] == "tiny") == small and row["work"].endswith(f"B={batch}")
            }
            spots = [names.index(name) + 0.27 * (place - 1) for name in found]
            axis.barh(spots, list(found.values()), height=0.25, color=colour, label=words)
        axis.set(xscale="log", title="tiny presets" if small else "the papers' sizes", xlabel="steps a second")
        axis.grid(axis="x")
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    _legend(figure, axes[0], loc="outside lower center", ncols=3)


def pixel_speed(result: dict[str, Any], figure: Figure) -> None:
    """Frames a second of worlds of tokens and pixels."""
    axis = figure.subplots()
    rows = [row for row in rows_of(result, "dream") if row["variant"] == "dream"]
    for name in dict.fromkeys(row["work"].rpartition(", B=")[0] for row in rows):
        mine = [row for row in rows if row["work"].rpartition(", B=")[0] == name]
        found = {int(row["work"].rpartition("=")[2]): row["rate"] for row in mine}
        axis.plot(list(found), list(found.values()), marker="o", label=name)
    batches = sorted({int(row["work"].rpartition("=")[2]) for row in rows})
    axis.set(xscale="log", yscale="log", xlabel="dreams at once", ylabel="frames a second")
    axis.set_xticks(batches, [f"{batch:,}" for batch in batches])
    _plain(axis.yaxis, (0.1, 1, 10, 100))
    axis.minorticks_off()
    axis.grid(axis="y")
    _legend(axis, loc="lower right")


def learning(result: dict[str, Any], figure: Figure) -> None:
    """Error of the forecast observation by horizon, every family."""
    worlds = sorted({one["env"] for one in result["fits"]}, key=lambda env: ("/" in env, env))
    axes = figure.subplots(1, len(worlds), squeeze=False)[0]
    for axis, env in zip(axes, worlds, strict=True):
        fits = [one for one in result["fits"] if one["env"] == env]
        for name in dict.fromkeys(one["family"] for one in fits):
            curves = [one["errors"]["observation"]["model"] for one in fits if one["family"] == name]
            axis.plot(result["k"], _median(curves), marker="o", markersize=3, linewidth=1.4, label=name)
        for who, line in BASELINES.items():
            curves = [one["errors"]["observation"][who] for one in fits]
            axis.plot(result["k"], _median(curves), color=TEXT, linestyle=line, linewidth=1.4, label=who)
        axis.set(yscale="log", title=env, xlabel="imagined steps", xticks=result["k"])
        axis.grid(axis="y")
    axes[0].set_ylabel("error of the observation")
    _legend(figure, axes[0], loc="outside lower center", ncols=5)


def dream_agents(result: dict[str, Any], figure: Figure) -> None:
    """What an agent earns in reality that was trained in a family's dream alone."""
    axis = figure.subplots()
    names = list(result["runs"])
    for place, name in enumerate(names):
        returns = sorted(one["real_return"] for one in result["runs"][name])
        axis.plot(returns, [place] * len(returns), "o", color=OURS, alpha=0.55, markersize=7)
        axis.plot([returns[len(returns) // 2]] * 2, [place - 0.3, place + 0.3], color=OURS, linewidth=2.2)
    guess = _median([[one["random_return"] for runs in result["runs"].values() for one in runs]])
    axis.axvline(sum(guess) / len(guess), color=THEIRS, linestyle=(0, (4, 2)), label="random play")
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set(xlim=(0, 515), xlabel="real return on CartPole (most: 500); a dot a seed, a bar the median")
    axis.grid(axis="x")
    _legend(axis, loc="lower left")


def demo(result: dict[str, Any], figure: Figure) -> None:
    """Return over real steps, of the demo's agents and of PPO in the real environment."""
    axis = figure.subplots()
    ours, direct = result["demo"], result["ppo_on_the_real_environment"]
    for found, colour, label, mark in (
        (ours, OURS, "PPO in the dream, a model of 10,000 real steps", "o"),
        (direct, THEIRS, "PPO in reality, until 475", "s"),
    ):
        steps, returns = [one["real_steps"] for one in found], [one["real_return"] for one in found]
        axis.plot(steps, returns, mark, color=colour, alpha=0.6, markersize=8, label=label)
    axis.plot([0] * len(ours), [one["random_return"] for one in ours], "x", color=TEXT, label="random play")
    axis.set(xlabel="real steps", ylabel="real return, a mark a seed", ylim=(0, 515))
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.grid()
    _legend(axis, loc="center left")


def pixels(result: dict[str, Any], figure: Figure) -> None:
    """Error in what moves, by horizon."""
    worlds = sorted({one["env"] for one in result["fits"]}, reverse=True)
    axes = figure.subplots(1, len(worlds), squeeze=False)[0]
    colours = {name: f"C{i}" for i, name in enumerate(sorted({one["family"] for one in result["fits"]}))}
    for axis, env in zip(axes, worlds, strict=True):
        fits = [one for one in result["fits"] if one["env"] == env]
        for one in fits:
            error = one["errors"]["moving parts"]
            axis.plot(result["k"], error["model"], marker="o", color=colours[one["family"]], label=one["family"])
        for who, line in BASELINES.items():
            error = _median([one["errors"]["moving parts"][who] for one in fits])
            axis.plot(result["k"], error, color=TEXT, linestyle=line, label=who)
        axis.set(title=env, xlabel="imagined steps", xticks=result["k"], ylim=(0, None))
        axis.grid(axis="y")
    axes[0].set_ylabel("squared error of what moves")
    seen = dict(zip(*reversed(axes[0].get_legend_handles_labels()), strict=True))
    figure.legend(seen.values(), seen.keys(), loc="outside lower center", ncols=5)


def video(result: dict[str, Any], figure: Figure) -> None:
    """Error in what moves by the time of a frame, a point for each number of the sampler's steps."""
    places = [0, len(result["k"]) - 1]
    axes = figure.subplots(1, len(places), sharey=True, squeeze=False)[0]
    for axis, place in zip(axes, places, strict=True):
        for colour, (name, ways) in enumerate(result["steps"].items()):
            family, errors = name.partition("-")[0], lambda way: way["errors"]["moving parts"]["model"][place]  # noqa: B023
            drawn = sorted((way["ms"]["16"], errors(way)) for told, way in ways.items() if told != "teacher")
            axis.plot(*zip(*drawn, strict=True), marker="o", color=f"C{colour}", label=family)
            if "teacher" in ways:
                teacher = ways["teacher"]
                axis.plot(teacher["ms"]["16"], errors(teacher), "s", color=f"C{colour}", label=f"{family}'s teacher")
        ahead = result["k"][place]
        axis.set(xscale="log", xlabel="CPU milliseconds of a frame")
        axis.set_title("the next frame" if ahead == 1 else f"{ahead} steps ahead")
        _plain(axis.xaxis, (10, 20, 50, 100))
        axis.grid()
    axes[0].set(ylabel="squared error of what moves", ylim=(0, None))
    _legend(figure, axes[0], loc="outside lower center", ncols=4)


def dream_only(result: dict[str, Any], figure: Figure) -> None:
    """Return in the real game by dreamed steps, of agents that know the dream alone."""
    axis = figure.subplots()
    trained = [run for run in result["runs"] if run["agent"] != "random"]
    for number, run in enumerate(trained):
        steps = [point["dreamed_steps"] for point in run["curve"]]
        name = {"own": "its paper's actor-critic", "PPO": "PPO"}[run["agent"]]
        label = f"{run['family']}, {name}"
        axis.plot(steps, [point["mean"] for point in run["curve"]], marker="o", color=f"C{number}", label=label)
    guess = [run["curve"][-1]["mean"] for run in result["runs"] if run["agent"] == "random"]
    axis.axhline(sum(guess) / len(guess), color=TEXT, linestyle=BASELINES["mean"], label="uniform actions")
    axis.set(xlabel="dreamed steps", ylabel="real return, bricks an episode", xlim=(0, None), ylim=(0, None))
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.grid()
    _legend(axis, loc="upper left")


def planning(result: dict[str, Any], figure: Figure) -> None:
    """Real returns of every planner, a dot an episode; and by the milliseconds of a step, where that was measured."""
    panels = [*dict.fromkeys(one["env"] for one in result["returns"]), *(["budget"] if result["curve"] else [])]
    for axis, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        if panel == "budget":
            _on_budget(result["curve"], axis)
            continue
        played = [one for one in result["returns"] if one["env"] == panel]
        names = [f"{one['family']}, {one['planner']}" for one in played]
        for place, one in enumerate(played):
            axis.plot([place] * len(one["returns"]), one["returns"], "o", color=OURS, alpha=0.5, markersize=6)
            axis.plot([place - 0.3, place + 0.3], [one["mean"]] * 2, color=OURS, linewidth=2.2)
        for one in result["random"]:
            if one["env"] == panel:
                axis.axhline(one["mean"], color=THEIRS, linestyle=(0, (4, 2)), label="random play")
        axis.set_xticks(range(len(names)), names, rotation=90)
        axis.set(title=panel, ylabel="real return", xlim=(-0.6, len(names) - 0.4))
        axis.grid(axis="y")
        _legend(axis, loc="best")


def _on_budget(points: Sequence[dict[str, Any]], axis: Any) -> None:
    """A line a planner, a dot an episode."""
    for name, colour in (("CEM", OURS), ("MPPI", THEIRS)):
        own = sorted((one["ms"], one["mean"], one["returns"]) for one in points if one["planner"] == name)
        for ms, _, returns in own:
            axis.plot([ms] * len(returns), returns, ".", color=colour, alpha=0.3, markersize=5)
        if own:
            axis.plot(*zip(*((ms, mean) for ms, mean, _ in own), strict=True), marker="o", color=colour, label=name)
    axis.set(title="by the time of a step", xlabel="milliseconds of a step", ylabel="real return on Pendulum")
    axis.grid()
    _legend(axis, loc="lower right")


PLOTS: dict[str, tuple[Callable[[dict[str, Any], Figure], None], tuple[float, float]]] = {
    "speed": (speed, (9.5, 4.0)),
    "families": (families, (9.5, 5.2)),
    "pixel_speed": (pixel_speed, (6.5, 3.2)),
    "learning": (learning, (9.5, 4.0)),
    "dream_agents": (dream_agents, (7.5, 3.6)),
    "demo": (demo, (7.5, 3.2)),
    "pixels": (pixels, (8.5, 3.6)),
    "video": (video, (8.5, 3.6)),
    "dream_only": (dream_only, (7.5, 3.6)),
    "planning": (planning, (9.5, 4.4)),
}
"""What draws each page's figure, and its size in inches."""


def draw(name: str, folder: Path) -> Path:
    """The figure of a page, from ``NAME.json`` in its folder to ``media/NAME.svg``."""
    plot, size = PLOTS[name]
    path = folder / "media" / f"{name}.svg"
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        plot(json.loads((folder / f"{name}.json").read_text()), figure)
        figure.savefig(path, metadata={"Date": None})
    return path


def _legend(place: Any, named: Any = None, **options: Any) -> None:
    """A legend in a figure or an axis of what is named in an axis, if anything was measured."""
    handles, labels = (place if named is None else named).get_legend_handles_labels()
    if handles:
        place.legend(handles, labels, **options)


def _median(curves: Sequence[Sequence[float]]) -> list[float]:
    """Of several seeds, point by point."""
    return [sorted(values)[len(values) // 2] for values in zip(*curves, strict=True)]


def _plain(axis: Any, ticks: Sequence[float]) -> None:
    """Numbers as they are written, on an axis with a logarithm."""
    axis.set_major_formatter(ScalarFormatter())
    axis.set_minor_formatter(NullFormatter())
    axis.set_ticks(list(ticks))


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plots", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(PLOTS), default=list(PLOTS))
    parser.add_argument("--folder", type=Path, default=FOLDER)
    given = parser.parse_args()
    for name in given.only:
        print(draw(name, given.folder))


if __name__ == "__main__":
    main()
