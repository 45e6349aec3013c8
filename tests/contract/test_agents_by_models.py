"""Every agent by every model family: it learns and acts there, or says why not when it is built."""

import math

import pytest
import torch
from torchrl.data import Bounded

from tests.support.agents_by_models import PAGE, WORLDS, acted, learnt, page, small_agent, world
from wmcomponents.agents import Agent
from wmcomponents.agents.search import no_value, uniform_prior
from wmcomponents.cli.known_agents import AGENTS, resolved, why_not
from wmcomponents.models import TDMPC2
from wmcomponents.models.value_equivalent.base import ValueEquivalentModel

REFUSED = {
    ("categorical", "dreamer_v1"): "no gradient passes through the index of a choice",
    ("iris", "dreamer_v1"): "no gradient passes through the dreams of IRIS",
    ("delta-iris", "dreamer_v1"): "no gradient passes through the dreams of DeltaIRIS",
    **dict.fromkeys(
        [("storm", "dreamer_v1"), ("storm-dict", "dreamer_v1"), ("storm-dict", "dreamer_v2")],
        "no gradient passes through the dreams of STORM",
    ),
    ("storm-dict", "dreamer_v3_preprint"): "no gradient passes through the dreams of STORM",
}


@pytest.mark.parametrize(("name", "agent"), [(name, agent) for name in WORLDS for agent in AGENTS])
def test_an_agent_learns_and_acts_in_a_model_or_says_why_not(name, agent):
    model = world(name)
    reason = REFUSED.get((name, agent)) or _reason(model, agent)
    if reason is not None:
        said = why_not(agent, model)
        assert said is not None and reason in said
        if reason == "hand in":
            parts = {"discount": 0.9, "prior": uniform_prior, "value": no_value}
            assert model.action_spec.is_in(acted(small_agent(agent, model, **parts)))
        return
    weights = [parameter.clone() for parameter in model.parameters()]
    made = small_agent(agent, model)
    assert isinstance(made, Agent) and made.model is model
    if AGENTS[agent].kind == "search":  # what it finds is learned by the model alone
        assert made.learns_from == "nothing" or learnt(made) == [{}, {}]
    elif made.learns_from != "nothing":
        before = _numbers(made.state_dict())
        assert all(math.isfinite(value) for found in learnt(made) for value in found.values())
        after = _numbers(made.state_dict())
        assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=False))
        assert made.dreamed_steps > 0
    assert model.action_spec.is_in(acted(made))
    assert all(torch.equal(old, new) for old, new in zip(weights, model.parameters(), strict=True))


def _reason(model, agent: str) -> str | None:
    """Why an agent must be refused, by kind."""
    kind, shown = AGENTS[agent].kind, list(model.observation_spec.values())
    is_choice = not isinstance(model.action_spec, Bounded)
    if kind in ("actor-critic", "evolution") and "features" not in model.capabilities:
        return "offers no features"
    if agent in ("muzero", "efficientzero"):
        return None if isinstance(model, ValueEquivalentModel) else "no policy to teach"
    if kind == "recurrent actor-critic" and "decode" not in model.capabilities:
        return "offers no decode"
    if kind == "recurrent actor-critic" and not (len(shown) == 1 and len(shown[0].shape) == 3):
        return "not one image"
    if kind == "search":
        if (agent == "sampled_search") is is_choice:
            return "Its actions are"
        return None if isinstance(model, ValueEquivalentModel) else "hand in"
    if agent == "tdmpc2" and not isinstance(model, TDMPC2):
        return "plan in it with planners.mppi" if "value" in model.capabilities else "offers no value"
    if (agent in ("sb3-sac", "sb3-td3") and is_choice) or (
        agent in ("sb3-dqn", "iris", "delta_iris", "diamond") and not is_choice
    ):
        return "Its actions are"
    return None


def _numbers(state) -> list[torch.Tensor]:
    """The weights in a state, at any depth."""
    if torch.is_tensor(state):
        return [state.clone()] if state.is_floating_point() else []
    entries = state.values() if isinstance(state, dict) else state if isinstance(state, (list, tuple)) else ()
    return [number for entry in entries for number in _numbers(entry)]


def test_the_page_shows_the_matrix_as_it_is():
    assert PAGE.read_text() == page(), "python -m tests.support.agents_by_models writes the page anew"


@pytest.mark.parametrize("name", [name for name, known in AGENTS.items() if known.whole])
def test_the_presets_of_a_whole_agent_are_its_methods(name):
    whole = resolved(str(AGENTS[name].whole))
    assert all(callable(getattr(whole, preset)) for preset in AGENTS[name].presets)
