"""Agents by name: one line each."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wmcomponents.cli.errors import UsageError, meant

AGENT, STATE = "agent.json", "agent.safetensors"
"""Of the folder of a trained agent: which it is, and its state."""


def _sb3(algorithm: str) -> Callable[..., Any]:
    def build(model: Any, *, seed: int, steps: int) -> Any:
        from wmcomponents.integrations.sb3_agent import SB3Agent

        return SB3Agent(algorithm, model, seed=seed, schedule_steps=steps)

    return build


def _imagined(loss: str) -> Callable[..., Any]:
    def build(model: Any, *, seed: int, steps: int) -> Any:
        from wmcomponents.agents import actor_critic
        from wmcomponents.agents.actor_critic import ImaginationAgent

        ImaginationAgent.needs.check(model, "an actor-critic in imagination")
        return ImaginationAgent(getattr(actor_critic, loss)(model, seed=seed), dreams=256)

    return build


AGENTS: dict[str, Callable[..., Any]] = {
    "dreamer_v1": _imagined("dreamer_v1_loss"),
    "dreamer_v2": _imagined("dreamer_v2_loss"),
    "dreamer_v3": _imagined("dreamer_v3_loss"),
    "sb3-ppo": _sb3("ppo"),
    "sb3-a2c": _sb3("a2c"),
    "sb3-dqn": _sb3("dqn"),
    "sb3-sac": _sb3("sac"),
    "sb3-td3": _sb3("td3"),
}
"""What makes an agent in a world model, by name: a function of (model, seed=, steps=), where steps are the dreamt steps
over which it anneals."""


def known_agent(name: str) -> Callable[..., Any]:
    """What makes the agent of this name.

    Raises:
        UsageError: naming those that there are.
    """
    if name not in AGENTS:
        raise UsageError(f"--agent is one of {', '.join(AGENTS)}; got {name!r}.{meant(name, AGENTS)}")
    return AGENTS[name]


def agent_facts(folder: Path) -> dict[str, Any]:
    """What is noted of a trained agent; empty where there is none.

    Args:
        folder: of the agent.

    Raises:
        UsageError: if the note is damaged.
    """
    file = folder / AGENT
    if not file.is_file():
        return {}
    try:
        facts = json.loads(file.read_text())
        sound = facts["agent"] in AGENTS and all(type(facts[name]) is int for name in ("seed", "steps"))
    except (ValueError, KeyError, TypeError, RecursionError):
        sound = False
    if not sound:
        raise UsageError(f"{file} is damaged: choose another folder, or train the agent again.")
    return facts


def load_agent_folder(folder: Path, model: Any) -> Any:
    """A trained agent from its folder, in a world model.

    Args:
        folder: written by ``wmc train --agent``.
        model: the world model that it was trained in.

    Raises:
        BadCheckpointError: if its state is damaged.
        UsageError: if the folder holds no agent.
    """
    from wmcomponents.training.nested_state import load_nested

    facts = agent_facts(folder)
    if not facts:
        raise UsageError(f"{folder} holds no agent; `wmc train --agent sb3-ppo --dream-only --model ...` trains one.")
    agent = AGENTS[facts["agent"]](model, seed=facts["seed"], steps=facts["steps"])
    agent.load_state_dict(load_nested(folder / STATE))
    return agent
