"""The page of agents trained only in the dreams of a game."""

import math
import statistics
from typing import Any

from benchmarks.fitting import REAL_STEPS, REPEAT_PROBABILITY
from benchmarks.openings import figure
from benchmarks.pixel_worlds import FAMILIES

EPISODES, GLANCE_EPISODES = 100, 25
AGENTS = {"own": "the paper's actor-critic", "PPO": "Stable-Baselines3's PPO", "random": "uniform actions"}
"""Names on the page by those in the numbers."""

HEAD = (
    "| world | agent | seed | real steps | dreamed steps | real return | standard error | on the way | CPU (wall) |",
    "|---|---|---:|---:|---:|---:|---:|---|---:|",
)


ENCODER = """\
## What an actor-critic's encoder has to keep

With the papers' four pooled convolutions DIAMOND's actor-critic learned nothing in the same dream (0.41 after 102,600
steps, entropy scale 3e-3, 24 dreams an update): nearly all of a frame is black, so that its features are much the same
in all frames, the critic moves the memory along what they share until its units are saturated, and the policy becomes
the same in every frame. One convolution that keeps each cell of the game apart, and more entropy, are what the table
above was measured with; it begins to learn after some two hundred updates."""


def table(facts: dict[str, Any]) -> str:
    """The page.

    Args:
        facts: ``runs``; ``rates`` of dream and reality by family; ``settings`` of the agents.
    """
    runs, settings = facts["runs"], facts["settings"]
    lines = [
        "# Agents trained only in dreams of a game",
        "",
        "What agents earn in the real MinAtar Breakout that never took a step outside a world model's dream. The",
        f"models are those of [Worlds of tokens and pixels](pixels.md), fitted to {REAL_STEPS:,} steps of random play,",
        "and stay as they are.",
        "",
        *verdict(runs),
        "",
        figure("dream_only", "Return in the real game by dreamed steps, of each agent in each world"),
        "",
        *HEAD,
        *(row(run, runs[0]) for run in runs),
        "",
        f"Real return: bricks an episode, mean of {EPISODES} episodes; on the way of {GLANCE_EPISODES}. **Bold**: more",
        "than uniform actions earn, by two standard errors of the difference.",
        "",
        *rates_table(facts["rates"]),
        "",
        ENCODER,
        "",
        *tokens_section(facts["tokens"]),
        method(settings),
        "",
    ]
    return "\n".join(lines)


def row(run: dict[str, Any], guess: dict[str, Any]) -> str:
    """One run's line, beside that of uniform actions."""
    last, before, is_random = run["curve"][-1], run["curve"][:-1], run["agent"] == "random"
    cells = [
        "" if is_random else FAMILIES[run["family"]],
        AGENTS[run["agent"]],
        str(run["seed"]),
        f"{run['real_steps']:,}",
        f"{last['dreamed_steps']:,}",
        f"**{last['mean']:.2f}**" if is_better(run, guess) else f"{last['mean']:.2f}",
        f"{standard_error(last['returns']):.2f}",
        ", ".join(f"{point['mean']:.2f}" for point in before),
        "" if is_random else f"{run['cpu_seconds'] / 60:.1f} min ({run['seconds'] / 60:.0f})",
    ]
    return "| " + " | ".join(cells) + " |"


def _upper(words: str) -> str:
    return words[0].upper() + words[1:]


def standard_error(returns: list[float]) -> float:
    """Of the mean."""
    return statistics.stdev(returns) / math.sqrt(len(returns))


def is_better(run: dict[str, Any], guess: dict[str, Any]) -> bool:
    """Whether a run earns more than uniform actions do, by two standard errors of the difference."""
    ours, theirs = run["curve"][-1], guess["curve"][-1]
    spread = math.hypot(standard_error(ours["returns"]), standard_error(theirs["returns"]))
    return ours["mean"] - theirs["mean"] > 2 * spread


def verdict(runs: list[dict[str, Any]]) -> list[str]:
    """The outcome in words, as lines."""
    guess = runs[0]["curve"][-1]["mean"]
    found = {(run["family"], run["agent"]): run["curve"][-1]["mean"] for run in runs[1:]}
    lines = [f"- Uniform actions earn {guess:.2f} bricks an episode."]
    for (family, agent), mean in found.items():
        times = f"{mean / guess:.1f} times as much"
        lines.append(f"- **{_upper(AGENTS[agent])} in {FAMILIES[family]}'s dream** earns {mean:.2f}, {times}.")
    missing = [FAMILIES[family] for family in ("Diamond", "IRIS") if family not in {family for family, _ in found}]
    return [*lines, *(f"- {name} has not been measured yet." for name in missing)]


def rates_table(rates: dict[str, Any]) -> list[str]:
    """Whether dreams pay and end as the game does, as lines."""
    if not rates:
        return []
    spans = [f"{first + 1}-{last}" for first, last in next(iter(rates.values()))["spans"]]
    lines = [
        "## Is the dream the game?",
        "",
        "What random play is paid, and how often it ends, a step: in reality and in the dream, from the same states.",
        "Rows that have ended are left out.",
        "",
        f"| | {' | '.join(f'{kind}, steps {span}' for kind in ('reward', 'end') for span in spans)} |",
        "|---|" + 2 * len(spans) * "---:|",
    ]
    shown = {"reality": next(iter(rates.values()))["reality"]}
    shown |= {f"dream of {FAMILIES[family]}": found["dream"] for family, found in rates.items()}
    for name, found in shown.items():
        numbers = [f"{value:.3f}" for kind in ("reward", "end") for value in found[kind]]
        lines.append(f"| {name} | {' | '.join(numbers)} |")
    return lines


def tokens_section(kept: dict[str, float]) -> list[str]:
    """What IRIS's policy sees, as lines.

    Args:
        kept: share of the pixels of each thing that a frame keeps which is written as tokens and read back.
    """
    if not kept:
        return []
    return [
        "## What IRIS's policy sees",
        "",
        "It reads reality as the tokenizer writes and reads it. Of what held-out frames show, that keeps, in the",
        f"nearest of the game's colours: {', '.join(f'{thing} {share:.0%}' for thing, share in kept.items())}.",
        "A paddle that cannot be seen cannot be steered; PPO reads the model's features in its place. Nearly two",
        "thirds of a dream of 19 steps lie behind its end, moreover, and IRIS's loss counts them. `IRISAgent.tiny`",
        "weighs the errors of an image thirty times as much, and begins a dream anew that has ended.",
        "",
    ]


def method(settings: dict[str, Any]) -> str:
    """How it was measured.

    Args:
        settings: sizes of the agents by name.
    """
    own, ppo = settings["own"], settings["PPO"]
    return f"""\
## How it was measured

- The papers' actor-critics (`diamond_loss`, `iris_loss`) with a memory of {own["units"]} units, learning rate
  {own["lr"]:g} (the papers': 1e-4), entropy scale {own["entropy_scale"]:g} (1e-3), {own["dreams"]} dreams an
  update, of 15 (DIAMOND) and 19 steps (IRIS), from frames of the data that the model was fitted to. One convolution
  of {own["channels"][0]} channels stands in place of four, down to a map {own["coarsest"]} wide. What else they are
  is the papers'.
- PPO (`SB3Agent`): {ppo["dreams"]} dreams side by side of at most {ppo["horizon"]} steps, from states of the same data;
  {ppo["round"]:,} steps a round, {ppo["n_epochs"]} epochs, learning rate {ppo["learning_rate"]:g}, discount
  {ppo["gamma"]:g}, two layers of {" and ".join(map(str, ppo["layers"]))}. It reads DIAMOND's frames and IRIS's
  features.
- PPO goes over each dream {ppo["n_epochs"]} times with scaled advantages, and the papers' actor-critics once.
- DIAMOND's frames are drawn in one denoising step (the paper: three): less than half the time, and the table above was
  measured so.
- Every agent draws its actions in reality too, as in the papers. The game has sticky actions (0.1). Uniform actions are
  another policy than that which collected the data, which repeats an action with probability {REPEAT_PROBABILITY:g}.
- One thread, beside other work: CPU time is the run's own. The fit of the model is not in it.

Command: `python -m benchmarks.dream_only` (numbers in [dream_only.json](dream_only.json))."""
