"""Which agent learns in which world model: the cells of the matrix, and the table of them in the documentation.

A new agent is a line of ``wmcomponents.cli.known_agents.AGENTS``, a new model a line of :data:`WORLDS`. Write the page
anew by ``python -m tests.support.agents_by_models``.
"""

import functools
import re
from typing import Any

import torch
from tensordict import TensorDict

from tests.support.models import MODELS
from tests.support.pages import ROOT
from wmcomponents.cli.known_agents import AGENTS, make_agent, why_not
from wmcomponents.dream.experience import Experience

WORLDS = {
    "point-mass": "a model without features",
    "categorical": "a model whose choices are indices",
    "dreamer-v1": "DreamerV1, choices",
    "dreamer-v1-image": "DreamerV1, numbers",
    "planet-dict": "PlaNet, choices",
    "planet": "PlaNet, numbers",
    "dreamer-v2": "DreamerV2, choices",
    "dreamer-v2-gaussian": "DreamerV2, numbers",
    "dreamer-v3-preprint": "DreamerV3Preprint, choices",
    "dreamer-v3-preprint-dict": "DreamerV3Preprint, numbers",
    "dreamer-v3": "DreamerV3, choices",
    "dreamer-v3-gaussian": "DreamerV3, numbers",
    "world-models": "WorldModels, choices",
    "world-models-image": "WorldModels, numbers",
    "td-mpc2": "TDMPC2, choices",
    "td-mpc2-image": "TDMPC2, numbers",
    "muzero": "MuZero, choices",
    "muzero-continuous": "MuZero, numbers",
    "efficientzero": "EfficientZero, choices",
    "efficientzero-continuous": "EfficientZero, numbers",
    "iris": "IRIS, choices",
    "delta-iris": "DeltaIRIS, choices",
    "storm": "STORM, choices",
    "storm-dict": "STORM, numbers",
    "diamond": "Diamond, choices",
}
"""Models of the contract by name, and how the page calls them."""

SMALL: dict[str, dict[str, Any]] = {
    "actor-critic": {"units": 8, "horizon": 2, "dreams": 4},
    "recurrent actor-critic": {"units": 8, "horizon": 2, "burn_in": 2},
    "evolution": {"population": 4, "rollouts": 4, "horizon": 4, "sigma": 2.0},
    "planner": {"horizon": 2, "candidates": 8, "elites": 2, "budget": 1},
    "search": {"simulations": 3},
    "Stable-Baselines3": {"dreams": 2, "horizon": 3, "round_steps": 16},
}
"""Arguments by kind of agent that make it cheap."""

OWN: dict[str, dict[str, Any]] = {
    "dreamer_v3": {"replay_scale": 0.0},
    "tdmpc2": {"proposals": 2},
    "sb3-ppo": {"n_steps": 8, "batch_size": 16, "n_epochs": 1},
    "sb3-a2c": {"n_steps": 8},
    "sb3-sac": {"learning_starts": 4, "buffer_size": 64, "batch_size": 4},
    "sb3-dqn": {"learning_starts": 4, "buffer_size": 64, "batch_size": 4},
    "sb3-td3": {"learning_starts": 4, "buffer_size": 64, "batch_size": 4},
}
"""And by agent."""

PAGE = ROOT / "docs" / "reference" / "agents.md"
BEGIN, END = "<!-- begin of the table -->\n", "<!-- end of the table -->\n"


@functools.cache
def world(name: str) -> Any:
    """One small model a name, shared: no agent may change it."""
    torch.manual_seed(0)
    return dict(MODELS)[name]().eval()


def small_agent(agent: str, model: Any, **parts: Any) -> Any:
    """An agent in a model, as cheap as it gets; parts are what the model itself lacks."""
    return make_agent(agent, model, **SMALL.get(AGENTS[agent].kind, {}), **OWN.get(agent, {}), **parts)


def learnt(agent: Any) -> list[dict[str, float]]:
    """What two updates of an agent report, in dreams alone where it learns from nothing else."""
    sample = (lambda: sequences(agent.model)) if agent.learns_from == "sequences" else None
    experience = Experience(agent.model, sample)
    return [agent.learn(experience) for _ in range(2)]


def sequences(model: Any) -> TensorDict:
    """Two random sequences of three steps, in TorchRL's layout."""
    shape = torch.Size([2, 3])
    no = torch.zeros(2, 3, 1, dtype=torch.bool)
    begins = no.clone()
    begins[:, 0] = True
    ends = {"done": no, "terminated": no, "truncated": no}
    after = {**dict(model.observation_spec.rand(shape).items()), **ends, "reward": torch.randn(2, 3, 1), "is_init": no}
    now = {**dict(model.observation_spec.rand(shape).items()), **ends, "is_init": begins}
    return TensorDict({**now, "action": model.action_spec.rand(shape), "next": TensorDict(after, shape)}, shape)


def acted(agent: Any) -> torch.Tensor:
    """An agent's action on a random observation of a real environment."""
    model, policy = agent.model, agent.real_policy
    torch.manual_seed(0)
    step = TensorDict(dict(model.observation_spec.rand((1,)).items()), [1])
    step["is_init"] = torch.ones(1, 1, dtype=torch.bool)
    if hasattr(policy, "make_tensordict_primer"):
        for key, value in policy.make_tensordict_primer().primers.zero((1,)).items():
            step[key] = value
    with torch.no_grad():
        return policy(step)["action"][0]


def table() -> str:
    """Every agent by every model, in Markdown: fits, or the number of the reason below."""
    reasons: dict[str, int] = {}
    lines = [f"| world model | {' | '.join(f'`{agent}`' for agent in AGENTS)} |", "|---" * (len(AGENTS) + 1) + "|"]
    for name, shown in WORLDS.items():
        model, cells = world(name), []
        for agent in AGENTS:
            why = why_not(agent, model)
            text = "" if why is None else _said(why, model)
            cells.append("yes" if why is None else f"({reasons.setdefault(text, len(reasons) + 1)})")
        lines.append(f"| {shown} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"{number}. {text}" for text, number in reasons.items()), ""])


def _said(why: str, model: Any) -> str:
    """A reason without the names of who asked and who was asked."""
    text = why.partition("cannot run in this model. ")[2] or why
    text = text.replace(type(model).__name__, "this model").replace(". this model", ". This model")
    text = re.sub(r"Its actions are \w+\[[^]]*\]", "Its actions are of another kind", text)
    text = re.sub(r"giving \d+ raw outputs", "giving raw outputs", text)
    text = re.sub(r"Its observations are .*?, not", "Its observations are of another kind, not", text)
    return text[0].upper() + text[1:]


def page() -> str:
    """The page with the table as it is now."""
    before, rest = PAGE.read_text().split(BEGIN)
    return before + BEGIN + "\n" + table() + "\n" + END + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(page())
