"""`wmc demo`: the demo with its table and its line of JSON."""

import json
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmcomponents._interruption import postponed
from wmcomponents.cli.console import quiet, say, show_table
from wmcomponents.cli.demo_config import DemoConfig
from wmcomponents.cli.device import device_of
from wmcomponents.cli.errors import at_least, known_family

if TYPE_CHECKING:
    from wmcomponents.cli.demo import DemoResult


def run(config: DemoConfig) -> dict[str, Any]:
    """Run the demo and show what came out."""
    counts = ("real_steps", "rounds", "updates", "dream_steps", "final_dream_steps", "dreams", "horizon", "episodes")
    at_least(1, **{name: getattr(config, name) for name in counts})
    known_family(config.family, config.preset, config.changes)
    device_of(config.device)
    with postponed():  # an import that is broken off says something else than that it was
        from wmcomponents.cli.demo import run_demo
    quiet()
    result = run_demo(config, say=say, conclude=lambda result: _conclude(config, result))
    return json.loads(result.line())


def _conclude(config: DemoConfig, result: "DemoResult") -> None:
    """Note what the model was made of, and show what came out."""
    from wmcomponents.pretrained.training_note import note_training

    options = {"from_pixels": config.from_pixels, "max_episode_steps": config.max_episode_steps}
    facts = {
        "env": config.env,
        "env_options": options,
        "family": config.family,
        "preset": config.preset,
        "steps": config.updates * config.rounds,
    }
    note_training(Path(result.files["model"]), facts)
    rows: list[list[Any]] = [
        ["real steps", f"{result.real_steps:,}"],
        ["dreamed steps", f"{result.dream_steps:,}"],
        ["wall time", f"{result.seconds:.0f} s"],
        ["random policy, real return", _spread(result.random_return, result.returns.get("random"))],
        ["agent, dream return", _spread(result.dream_return, result.returns.get("dream"))],
        ["agent, real return", _spread(result.real_return, result.returns.get("real"))],
    ]
    show_table(
        f"{result.env}, seed {result.seed}", ["", "mean", "median", "min", "max"], [_padded(row) for row in rows]
    )
    for name, path in result.files.items():
        say(f"  {name}: {path}")


def _spread(mean: float, returns: list[float] | None) -> list[str]:
    if not returns:
        return [f"{mean:.1f}"]
    return [f"{value:.1f}" for value in (mean, statistics.median(returns), min(returns), max(returns))]


def _padded(row: list[Any]) -> list[str]:
    values = row[1] if isinstance(row[1], list) else [row[1]]
    return [row[0], *values, *[""] * (4 - len(values))]
