"""What a driver asks of a model: nothing to say of one that fits, else each reason with its remedy."""

from types import SimpleNamespace

import pytest
import torch
from torchrl.data import Bounded, Categorical, Composite, MultiCategorical, MultiOneHot, OneHot, Unbounded

from wmcomponents.agents.actor_critic import ImaginationAgent
from wmcomponents.agents.actor_critic.recurrent_agent import RecurrentAgent
from wmcomponents.testing.toy import PARTS, ToyWorldModel
from wmcomponents.world_model import CapabilityError, Needs

IMAGE = Unbounded((8, 8, 3))


def model(action=None, parts=PARTS, **observations):
    observations = observations or {"observation": Unbounded(3)}
    return ToyWorldModel(Composite(**observations), OneHot(2) if action is None else action, parts=parts)


def test_a_model_that_offers_everything_lacks_nothing():
    needs = Needs(PARTS, actions="one choice", observations="vectors")
    assert needs.lacking(model()) == []
    needs.check(model(), "an agent")
    assert Needs().lacking(model(parts=())) == []


@pytest.mark.parametrize(
    ("part", "remedy"),
    [
        ("features", "choose a model that offers features, or an agent that reads what the model decodes."),
        ("decode", "choose a model with a decoder, or an agent that reads features."),
        ("reward", "pass reward=, a function of"),
        ("value", "choose a model that predicts values"),
        ("continue", "choose a model that does."),
    ],
)
def test_each_part_that_is_missing_is_named_with_its_remedy(part, remedy):
    (said,) = Needs(PARTS).lacking(model(parts=set(PARTS) - {part}))
    assert said.startswith(f"ToyWorldModel offers no {part}: {remedy}")


NUMBERS = Bounded(-1, 1, (2,))
ACTIONS = {
    "OneHot[2]": (OneHot(2), {"one choice", "choices"}),
    "Categorical[]": (Categorical(3), {"one choice", "choices"}),
    "MultiOneHot[5]": (MultiOneHot([2, 3]), {"choices"}),
    "MultiCategorical[2]": (MultiCategorical([2, 3]), {"choices"}),
    "BoundedContinuous[2]": (NUMBERS, {"numbers"}),
}


@pytest.mark.parametrize("name", ACTIONS)
@pytest.mark.parametrize("kind", ["any", "one choice", "choices", "numbers"])
def test_actions_of_another_kind_are_named_with_the_remedy(name, kind):
    action, fitting = ACTIONS[name]
    said = Needs(actions=kind).lacking(model(action))
    if kind == "any" or kind in fitting:
        assert said == []
    else:
        assert said == [
            f"its actions are {name}, not {kind}: choose an agent for such actions (`wmc agents` lists them), or wrap "
            f"the environment."
        ]


def test_whole_numbers_and_numbers_without_bounds_are_no_actions_between_bounds():
    for action in (Bounded(0, 5, (1,), dtype=torch.int64), Unbounded(2)):
        assert "not numbers" in Needs(actions="numbers").lacking(model(action))[0]


@pytest.mark.parametrize(
    ("observations", "fitting"),
    [
        ({"observation": Unbounded(3)}, {"vectors"}),
        ({"a": Unbounded(3), "b": Unbounded(2)}, {"vectors"}),
        ({"pixels": IMAGE}, {"images", "one image"}),
        ({"left": IMAGE, "right": IMAGE}, {"images"}),
        ({"pixels": IMAGE, "speed": Unbounded(1)}, set()),
    ],
)
@pytest.mark.parametrize("kind", ["images", "one image", "vectors"])
def test_observations_of_another_kind_are_named_with_their_shapes_and_the_remedy(observations, fitting, kind):
    said = Needs(observations=kind).lacking(model(**observations))
    if kind in fitting:
        assert said == []
        return
    shapes = ", ".join(f"{key} {list(leaf.shape)}" for key, leaf in observations.items())
    has_images = any(len(leaf.shape) == 3 for leaf in observations.values())
    other = "its own observations" if has_images else "from_pixels=True"
    assert said == [
        f"its observations are {shapes}, not {kind}: choose an agent that reads features, or build the environment "
        f"with {other}."
    ]


def test_a_refusal_names_the_driver_and_all_that_is_missing():
    needs = Needs(("features", "reward"), actions="numbers", observations="images")
    with pytest.raises(CapabilityError) as caught:
        needs.check(model(parts={"decode"}), "this agent")
    said = str(caught.value)
    assert said.startswith("this agent cannot run in this model. ToyWorldModel offers no features: ")
    for reason in (
        "ToyWorldModel offers no reward: ",
        "Its actions are OneHot[2]",
        "Its observations are observation [3]",
    ):
        assert reason in said


@pytest.mark.parametrize("agent", [ImaginationAgent, RecurrentAgent])
def test_an_agent_asks_for_its_needs_whatever_its_loss_asked_for(agent):
    lacking = model(parts=set(PARTS) - {"reward"})
    with pytest.raises(CapabilityError, match="cannot run in this model. ToyWorldModel offers no reward: pass reward="):
        agent(SimpleNamespace(world_model=lacking, needs=Needs(("features", "reward")), uncertainty=None))
