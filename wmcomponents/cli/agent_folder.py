"""The folder of a trained agent: which it is, the world model that it acts by, and its state."""

import json
from pathlib import Path
from typing import Any

from wmcomponents.cli.errors import UsageError
from wmcomponents.cli.known_agents import AGENTS, make_agent

AGENT, STATE = "agent.json", "agent.safetensors"
"""Of the folder: which agent it is, and its state."""


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
        facts["agent"] = _names_of_whole_agents().get(facts["agent"], facts["agent"])
        sound = facts["agent"] in AGENTS and all(type(facts[name]) is int for name in ("seed", "steps"))
    except (ValueError, KeyError, TypeError, RecursionError):
        sound = False
    if not sound:
        raise UsageError(f"{file} is damaged: choose another folder, or train the agent again.")
    return facts


def _names_of_whole_agents() -> dict[str, str]:
    """The names of whole agents by their classes, as which an online run notes them."""
    return {known.whole.rpartition(":")[2]: name for name, known in AGENTS.items() if known.whole}


def dreaming_agent(
    name: str, model: Any, *, seed: int, steps: int, penalty: float | None = None, limit: float | None = None
) -> Any:
    """An agent that is to learn in dreams alone.

    Args:
        name: of ``known_agents.AGENTS``.
        model: the world model.
        seed: of its dreams.
        steps: dreamt steps over which it anneals what it anneals by steps.
        penalty: what the disagreement of an ensemble's members costs; nothing if not given.
        limit: the disagreement where a dream ends; it ends nowhere for that if not given.

    Raises:
        CapabilityError: if the disagreement counts, and the model is no ensemble.
        UsageError: if it counts, and the agent's dreams do not look at it.
    """
    kind = AGENTS[name].kind
    changes: dict[str, Any] = {"schedule_steps": steps} if kind == "Stable-Baselines3" else {}
    if penalty is not None or limit is not None:
        changes |= _unsure(name, penalty, limit)
    return make_agent(name, model, seed=seed, **changes)


def _unsure(name: str, penalty: float | None, limit: float | None) -> dict[str, Any]:
    """The arguments of an agent whose dreams look at what their model does not know."""
    from wmcomponents.dream.uncertainty import Halt, Penalty, Uncertainty

    halt = None if limit is None else Halt(limit, 0.0)
    looked_at = Uncertainty(reward=None if penalty is None else Penalty(penalty), halt=halt)
    kind = AGENTS[name].kind
    if kind == "Stable-Baselines3":
        return {"dream": {"uncertainty": looked_at}}
    if kind not in ("actor-critic", "recurrent actor-critic"):
        raise UsageError(
            f"dreams of {name} do not look at uncertainty: leave out --uncertainty-penalty and --uncertainty-limit, or "
            f"train one of {', '.join(each for each, known in AGENTS.items() if 'critic' in known.kind)} or sb3-..."
        )
    # Real experience is not charged, so that no critic may learn of it and of the dreams.
    return {"uncertainty": looked_at, **({"replay_scale": 0.0} if name == "dreamer_v3" else {})}


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
    if "behaviour" in facts:
        agent = make_agent(facts["agent"], model, seed=facts["seed"], **_behaviour(folder, facts))
    else:
        agent = dreaming_agent(facts["agent"], model, seed=facts["seed"], steps=facts["steps"])
    agent.load_state_dict(load_nested(folder / STATE))
    return agent


def _behaviour(folder: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a whole agent's behaviour."""
    from wmcomponents.agents.behaviour_json import from_json

    try:
        return dict(from_json(facts["behaviour"]))
    except (TypeError, ValueError) as error:
        raise UsageError(f"{folder / AGENT} is damaged ({error}): choose another folder.") from error
