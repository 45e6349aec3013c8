"""The page and the figure of agents that learn online."""

import statistics
from pathlib import Path
from typing import Any

from wmcomponents.evaluation.style import COPY, DREAM, MEAN, STYLE, saved

COLOURS = {
    "DreamerV3": DREAM,
    "DreamerV2": "#7c3aed",
    "DreamerV1": "#0f766e",
    "SB3 PPO": COPY,
    "SB3 SAC": COPY,
    "TD-MPC2": "#b45309",
    "PlaNet": "#be185d",
    "MuZero": "#0369a1",
    "EfficientZero": "#4d7c0f",
    "DIAMOND": "#b45309",
    "IRIS": "#be185d",
    "Delta-IRIS": "#4d7c0f",
    "World Models": "#9f1239",
    "STORM": "#4338ca",
}


def first(curve: list[dict[str, float]], goal: float) -> float | None:
    """Real steps at the first evaluation that reached the goal."""
    return next((point["real_steps"] for point in curve if point["return"] >= goal), None)


def _seconds(run: dict[str, Any]) -> str:
    """Seconds of the processor and of the clock, since the real step at which a run was gone on with."""
    if run["seconds"] is None:
        return "stopped | "
    since = f" (from step {run['timed_from']:,})" if run.get("timed_from") else ""
    return f"{run['cpu_seconds']:.0f}{since} | {run['seconds']:.0f}"


def _fewer(task: dict[str, Any]) -> str:
    """Whose evaluations have another number of episodes, in brackets."""
    own = {each["agent"]: each["changes"].get("evaluate_episodes") for each in task["runs"]}
    told = [f"{name} {count}" for name, count in own.items() if count and count != task["episodes"]]
    return f" ({', '.join(told)})" if told else ""


def section(task: dict[str, Any]) -> list[str]:
    """A task's part of the page."""
    runs, goal = task["runs"], task["goal"]
    lines = [
        " ".join([f"## {task['env']}", *(f"{name}={value}" for name, value in task["options"].items())]),
        "",
        f"Goal: a return of {goal:g}, mean of {task['episodes']} episodes without exploration{_fewer(task)}.",
        "",
    ]
    lines += [
        "| agent | seed | real steps to the goal | return at the end | at real steps | CPU s | wall s |",
        "|---|---|---|---|---|---|---|",
    ]
    medians: dict[str, float] = {}
    for name in dict.fromkeys(each["agent"] for each in runs):
        own = [each for each in runs if each["agent"] == name]
        for each in own:
            reached, end = first(each["curve"], goal), each["curve"][-1]
            lines.append(
                f"| {name} | {each['seed']} | {'not reached' if reached is None else format(int(reached), ',')} | "
                f"{end['return']:.1f} | {int(end['real_steps']):,} | "
                f"{_seconds(each)} |"
            )
        to_goal = [first(each["curve"], goal) for each in own]
        if all(steps is not None for steps in to_goal):
            medians[name] = statistics.median(to_goal)
    base = [name for name in medians if name.startswith("SB3")]
    if base:
        factors = [f"{name} {medians[base[0]] / steps:.1f}" for name, steps in medians.items() if name != base[0]]
        if factors:
            lines += [
                "",
                f"Real steps to the goal, those of {base[0]} over the agent's (medians): {', '.join(factors)}.",
            ]
    return [*lines, ""]


def board(runs: list[dict[str, Any]]) -> list[str]:
    """The part of the page on tic-tac-toe; none where nothing was played."""
    if not runs:
        return []
    lines = [
        "## Tic-tac-toe",
        "",
        "MuZero plays against itself (`MuZeroAgent.board_game`), its games opened by up to four random moves, and now",
        "and then 100 games against perfect play, which picks at random among its best moves; MuZero begins half of",
        "them. Of two perfect players none loses.",
        "",
        "| seed | moves | updates | as first: won, drawn, lost | as second: won, drawn, lost | lost of 100 |",
        "|---|---|---|---|---|---|",
    ]
    for run in runs:
        best = min(run["curve"], key=lambda point: point["losses"])
        shown = [*run["curve"][:: max(1, len(run["curve"]) // 6)], best, run["curve"][-1]]
        for point in sorted({point["moves"]: point for point in shown}.values(), key=lambda point: point["moves"]):
            ways = ("wins", "draws", "losses")
            first_side, second_side = (", ".join(str(point[side][way]) for way in ways) for side in ("first", "second"))
            cells = [run["seed"], f"{point['moves']:,}", f"{point['updates']:,}", first_side, second_side]
            lines.append(f"| {' | '.join(map(str, cells))} | {point['losses']} |")
    none_lost = ", ".join(
        f"{sum(point['losses'] == 0 for point in run['curve'])} of {len(run['curve'])}" for run in runs
    )
    lines += ["", f"Matches in which it lost no game: {none_lost}; it does not stay there."]
    told = ", ".join(f"{run['cpu_seconds']:.0f}" for run in runs)
    return [*lines, "", f"`python -m benchmarks.tic_tac_toe`; CPU seconds, matches included: {told}.", ""]


def page(facts: dict[str, Any]) -> str:
    """The page that the numbers give."""
    lines = [
        "# Behaviour learned online",
        "",
        "Agents that begin with nothing: they act in the real environment, fit a world model to what they see, and",
        "learn in its dreams alone, all at once (`DreamerV3Agent.tiny(env).train(steps)` and its like). Beside them an",
        "algorithm of Stable-Baselines3 on the real environment, with its tuned arguments.",
        "",
        "![Return by real steps](media/agents.svg)",
        "",
    ]
    for task in facts["tasks"].values():
        lines += section(task)
    lines += board(facts["tic_tac_toe"])
    lines += [
        "## At the papers' size",
        "",
        "DreamerV3 with 12M parameters in the Atari 100k protocol was not run: it wants a GPU. The command is",
        "",
        "<!-- not run: it needs a GPU -->",
        "```python",
        "from wmcomponents.agents import DreamerV3Agent",
        "from wmcomponents.agents.dreamer_v3 import ATARI_100K",
        "from wmcomponents.data import make_env",
        "",
        'env = make_env("ALE/Pong-v5", sticky_actions=0.0)',
        'changes = {"updates_per_step": ATARI_100K, "capacity": 100_000}',
        'DreamerV3Agent.size12m(env, changes=changes, device="cuda", out="runs/pong").train(100_000)',
        "```",
        "",
        "Its estimate: 12,500 updates of 16 x 64 frames. One takes about 20 seconds on one CPU thread (2.8 s for a",
        "batch of 2, measured), so 70 hours there; 100,000 real steps (7 ms each) add 12 minutes.",
        "",
        "## How it was measured",
        "",
        f"`{facts['command']}` with torch {facts['torch']}, one thread a run, beside other work. The agents' numbers",
        "are those of their `tiny` presets but for what `agents.json` lists as changes; learning rates are those of",
        "minutes on a CPU, not the papers'. The presets' numbers were chosen in these environments, by a few runs,",
        "mostly of seed 0, with other episodes. The return is that of an environment of its own, where neither",
        "exploration nor learning happens. CPU seconds hold the evaluations. A run that was stopped is shown as far as",
        "it came; the same command goes on with it. A real step is an action; in dm_control it lasts two of the",
        "environment's own steps, or as many as `action_repeat` says (6,250 of eight are 50,000 of these). In these",
        "long steps DreamerV3's latent is Gaussian, not made of categories as the paper's.",
        "",
        "IRIS has not learned Breakout here. Earlier forms of its preset, 10 pixels a side, seed 0, stopped: 0.5, 0.0,",
        "0.0, 0.0 at 2,000 to 8,000 real steps (486 CPU s), and 0.42, 0.42, 0.52, 0.0, 0.0 at 2,000 to 10,000 (974 CPU",
        "s). Its tokenizer keeps paddle and ball by now; its transformer, after some 1,900 updates, dreams the paddle",
        "right 36 % of the time one step ahead. More of these updates are untried.",
        "",
    ]
    return "\n".join(lines)


def draw(facts: dict[str, Any], path: Path) -> None:
    """Curves of return by real steps: a panel a task, a colour an agent, a line a seed."""
    from matplotlib import pyplot, rc_context

    tasks = facts["tasks"]
    with rc_context({**STYLE, "svg.hashsalt": "agents"}):
        rows = -(-len(tasks) // 3)
        figure, panels = pyplot.subplots(rows, 3, figsize=(12.6, 3.2 * rows), squeeze=False)
        for axes in panels.flat[len(tasks) :]:
            axes.set_axis_off()
        for axes, (key, task) in zip(panels.flat, tasks.items(), strict=False):
            for name in dict.fromkeys(each["agent"] for each in task["runs"]):
                for place, each in enumerate(one for one in task["runs"] if one["agent"] == name):
                    points = [(point["real_steps"], point["return"]) for point in each["curve"]]
                    label = name if place == 0 else None
                    axes.plot(*zip(*points, strict=True), color=COLOURS[name], linewidth=1.5, alpha=0.85, label=label)
            axes.axhline(task["goal"], color=MEAN, linewidth=1, linestyle=":")
            ends = [each["curve"][-1]["real_steps"] for each in task["runs"] if not each["agent"].startswith("SB3")]
            axes.set(title=key, xlabel="real steps", ylabel="return", xlim=(0, 1.05 * max(ends)))
            axes.legend()
        figure.tight_layout()
        saved(figure, path)
        pyplot.close(figure)
