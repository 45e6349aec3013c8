"""Every agent by every model family: it learns and acts there, or says why not when it is built."""

import math

import pytest
import torch

from tests.support.agents_by_models import PAGE, WORLDS, acted, learnt, page, small_agent, world
from wmcomponents.agents import Agent
from wmcomponents.cli.known_agents import AGENTS, resolved, why_not

REFUSED = {
    ("point-mass", "actor-critic"): "offers no features",
    ("diamond", "actor-critic"): "offers no features",
}
"""Reasons by model and kind of agent, and by model and agent."""

REFUSED_ONE = {
    ("categorical", "dreamer_v1"): "no gradient passes through the index of a choice",
    ("iris", "dreamer_v1"): "no gradient passes through the dreams of IRIS",
    ("delta-iris", "dreamer_v1"): "no gradient passes through the dreams of DeltaIRIS",
}


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("name", WORLDS)
def test_an_agent_learns_and_acts_in_a_model_or_says_why_not(name, agent):
    model, kind = world(name), AGENTS[agent].kind
    reason = REFUSED_ONE.get((name, agent), REFUSED.get((name, kind)))
    if reason is not None:
        said = why_not(agent, model)
        assert said is not None and reason in said
        return
    weights = [parameter.clone() for parameter in model.parameters()]
    made = small_agent(agent, model)
    assert isinstance(made, Agent) and made.model is model
    if made.learns_from != "nothing":
        before = _numbers(made.state_dict())
        assert all(math.isfinite(value) for found in learnt(made) for value in found.values())
        after = _numbers(made.state_dict())
        assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
        assert made.dreamed_steps > 0
    assert model.action_spec.is_in(acted(made))
    assert all(torch.equal(old, new) for old, new in zip(weights, model.parameters(), strict=True))


def _numbers(state) -> list[torch.Tensor]:
    """The policy's weights."""
    loss = state.get("loss", state)
    return [v.clone() for k, v in loss.items() if torch.is_tensor(v) and v.is_floating_point() and "actor" in k]


def test_the_page_shows_the_matrix_as_it_is():
    assert PAGE.read_text() == page(), "python -m tests.support.agents_by_models writes the page anew"


@pytest.mark.parametrize("name", [name for name, known in AGENTS.items() if known.whole])
def test_the_presets_of_a_whole_agent_are_its_methods(name):
    whole = resolved(str(AGENTS[name].whole))
    assert all(callable(getattr(whole, preset)) for preset in AGENTS[name].presets)
