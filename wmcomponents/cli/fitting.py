"""`wmc agents`: which agent fits which world model, and why not."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wmcomponents.cli.console import quiet, say, show_facts, show_table
from wmcomponents.cli.errors import check_folders
from wmcomponents.cli.known_agents import AGENTS, why_not


@dataclass(frozen=True)
class AgentsConfig:
    """Arguments of `wmc agents`."""

    model: Path | None = None
    """Folder of a saved model; without it, the agents that there are."""


def run(config: AgentsConfig) -> dict[str, Any]:
    """Look and tell."""
    check_folders(model=config.model)
    quiet()
    if config.model is None:
        rows = [[name, known.kind, ", ".join(known.presets) or "-"] for name, known in AGENTS.items()]
        show_table("Agents", ["name", "kind", "presets of the whole agent"], rows)
        say("wmc agents --model FOLDER says which of them fit a saved model.")
        return {"agents": {name: {"kind": known.kind, "presets": known.presets} for name, known in AGENTS.items()}}
    from wmcomponents.models.loading import load

    model = load(config.model)
    reasons = {name: why_not(name, model) for name in AGENTS}
    show_facts(
        f"Agents in {config.model} ({type(model).__name__})",
        {name: "fits" if why is None else f"does not fit: {why}" for name, why in reasons.items()},
    )
    return {
        "model": str(config.model),
        "family": type(model).__name__,
        "agents": {name: {"fits": why is None, "why_not": why} for name, why in reasons.items()},
    }
