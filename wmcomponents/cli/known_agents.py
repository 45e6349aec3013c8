"""The agents that the commands know by name: how each is made in a world model, and whether it fits one."""

import importlib
from typing import Any, Literal, NamedTuple

from wmcomponents.cli.errors import UsageError, meant

Kind = Literal["actor-critic", "recurrent actor-critic", "Stable-Baselines3", "planner", "search", "evolution"]


class KnownAgent(NamedTuple):
    """An agent by its name; nothing of it is imported before it is asked for.

    Attributes:
        kind: how it finds its actions.
        make: ``module:callable``, which makes it in a world model: ``make(model, seed=0, **changes)``.
        whole: ``module:class`` of the paper's whole agent, which is trained online from nothing; ``None``: it learns in
            the dreams of a model that is there.
        presets: of the whole agent.
    """

    kind: Kind
    make: str
    whole: str | None = None
    presets: tuple[str, ...] = ()


def _cem(model: Any, *, seed: int = 0, **changes: Any) -> Any:
    from wmcomponents.agents.planners import cem
    from wmcomponents.agents.planning_agent import PlanningAgent

    return PlanningAgent(cem(model, seed=seed, **changes))


def _search(name: str, actions: Any, model: Any, *, seed: int = 0, **changes: Any) -> Any:
    from wmcomponents.agents import search
    from wmcomponents.world_model import Needs

    Needs(actions=actions).check(model, f"The agent {name}")
    return search.SearchAgent(getattr(search, name)(model, **changes), seed=seed)


def _gumbel_search(model: Any, **changes: Any) -> Any:
    return _search("gumbel_search", "choices", model, **changes)


def _sampled_search(model: Any, **changes: Any) -> Any:
    return _search("sampled_search", "numbers", model, **changes)


def _sb3(algorithm: str, model: Any, **changes: Any) -> Any:
    from wmcomponents.integrations.sb3_agent import SB3Agent

    return SB3Agent(algorithm, model, **changes)


def _ppo(model: Any, **changes: Any) -> Any:
    return _sb3("ppo", model, **changes)


def _a2c(model: Any, **changes: Any) -> Any:
    return _sb3("a2c", model, **changes)


def _sac(model: Any, **changes: Any) -> Any:
    return _sb3("sac", model, **changes)


def _dqn(model: Any, **changes: Any) -> Any:
    return _sb3("dqn", model, **changes)


def _td3(model: Any, **changes: Any) -> Any:
    return _sb3("td3", model, **changes)


HERE = __name__

AGENTS: dict[str, KnownAgent] = {
    "dreamer_v1": KnownAgent(
        "actor-critic",
        "wmcomponents.agents:DreamerV1Agent.behaviour_in",
        "wmcomponents.agents:DreamerV1Agent",
        ("tiny", "official"),
    ),
    "dreamer_v2": KnownAgent(
        "actor-critic",
        "wmcomponents.agents:DreamerV2Agent.behaviour_in",
        "wmcomponents.agents:DreamerV2Agent",
        ("tiny", "atari", "dmc_vision"),
    ),
    "dreamer_v3": KnownAgent(
        "actor-critic",
        "wmcomponents.agents:DreamerV3Agent.behaviour_in",
        "wmcomponents.agents:DreamerV3Agent",
        ("tiny", "size1m", "size12m", "size25m", "size200m"),
    ),
    "dreamer_v3_preprint": KnownAgent(
        "actor-critic",
        "wmcomponents.agents:DreamerV3PreprintAgent.behaviour_in",
        "wmcomponents.agents:DreamerV3PreprintAgent",
        ("tiny", "s", "xl"),
    ),
    "storm": KnownAgent(
        "actor-critic",
        "wmcomponents.agents:STORMAgent.behaviour_in",
        "wmcomponents.agents:STORMAgent",
        ("tiny", "atari"),
    ),
    "iris": KnownAgent(
        "recurrent actor-critic",
        "wmcomponents.agents:IRISAgent.behaviour_in",
        "wmcomponents.agents:IRISAgent",
        ("tiny", "atari"),
    ),
    "delta_iris": KnownAgent(
        "recurrent actor-critic",
        "wmcomponents.agents:DeltaIRISAgent.behaviour_in",
        "wmcomponents.agents:DeltaIRISAgent",
        ("tiny", "atari"),
    ),
    "diamond": KnownAgent(
        "recurrent actor-critic",
        "wmcomponents.agents:DiamondAgent.behaviour_in",
        "wmcomponents.agents:DiamondAgent",
        ("tiny", "atari"),
    ),
    "world_models": KnownAgent(
        "evolution",
        "wmcomponents.agents:WorldModelsAgent.behaviour_in",
        "wmcomponents.agents:WorldModelsAgent",
        ("tiny", "carracing", "doom"),
    ),
    "planet": KnownAgent(
        "planner",
        "wmcomponents.agents:PlaNetAgent.behaviour_in",
        "wmcomponents.agents:PlaNetAgent",
        ("tiny", "official"),
    ),
    "tdmpc2": KnownAgent(
        "planner",
        "wmcomponents.agents:TDMPC2Agent.behaviour_in",
        "wmcomponents.agents:TDMPC2Agent",
        ("tiny", "size1", "size5", "size19", "size48", "size317"),
    ),
    "cem": KnownAgent("planner", f"{HERE}:_cem"),
    "gumbel_search": KnownAgent("search", f"{HERE}:_gumbel_search"),
    "sampled_search": KnownAgent("search", f"{HERE}:_sampled_search"),
    "muzero": KnownAgent(
        "search",
        "wmcomponents.agents:MuZeroAgent.behaviour_in",
        "wmcomponents.agents:MuZeroAgent",
        ("tiny", "atari"),
    ),
    "efficientzero": KnownAgent(
        "search",
        "wmcomponents.agents:EfficientZeroAgent.behaviour_in",
        "wmcomponents.agents:EfficientZeroAgent",
        ("tiny", "atari"),
    ),
    "sb3-ppo": KnownAgent("Stable-Baselines3", f"{HERE}:_ppo"),
    "sb3-a2c": KnownAgent("Stable-Baselines3", f"{HERE}:_a2c"),
    "sb3-sac": KnownAgent("Stable-Baselines3", f"{HERE}:_sac"),
    "sb3-dqn": KnownAgent("Stable-Baselines3", f"{HERE}:_dqn"),
    "sb3-td3": KnownAgent("Stable-Baselines3", f"{HERE}:_td3"),
}
"""By the name that ``--agent`` takes: one line each."""


def known_agent(name: str, *, whole: bool = False) -> KnownAgent:
    """An agent by its name.

    Args:
        name: as typed.
        whole: ask for one that is trained online from nothing.

    Raises:
        UsageError: if there is none of this name, or none that is trained so.
    """
    there = [each for each, known in AGENTS.items() if known.whole or not whole]
    if name not in AGENTS:
        raise UsageError(f"there is no agent {name!r}.{meant(name, AGENTS)} There are {', '.join(AGENTS)}.")
    if name not in there:
        raise UsageError(
            f"{name} brings no world model of its own, and learns in the dreams of one that is there: pass --model DIR "
            f"--dream-only, or choose one of {', '.join(there)}."
        )
    return AGENTS[name]


def make_agent(name: str, model: Any, *, seed: int = 0, **changes: Any) -> Any:
    """An agent in a world model.

    Args:
        name: of ``AGENTS``.
        model: the world model.
        seed: of its dreams.
        **changes: its arguments that differ.

    Raises:
        CapabilityError, ValueError, TypeError: if it does not fit the model, with what is missing.
        MissingExtraError: if an optional library is not installed.
    """
    return resolved(known_agent(name).make)(model, seed=seed, **changes)


def why_not(name: str, model: Any) -> str | None:
    """Why an agent does not fit a world model, with the remedy; ``None`` where it fits.

    It is the answer that making it gives, so that what is told here is what would happen.

    Args:
        name: of ``AGENTS``.
        model: the world model.
    """
    from wmcomponents._extras import MissingExtraError
    from wmcomponents.world_model import CapabilityError

    try:
        make_agent(name, model)
    except (CapabilityError, ValueError, MissingExtraError) as error:
        return " ".join(str(error).split())
    return None


def resolved(path: str) -> Any:
    """What ``module:name.name`` names.

    Args:
        path: the path.
    """
    module, _, names = path.partition(":")
    found: Any = importlib.import_module(module)
    for name in names.split("."):
        found = getattr(found, name)
    return found
