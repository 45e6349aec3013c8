"""The protocol: what every world model declares, derives and refuses."""

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictSequential
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from tests.support.models import PointMass
from wmcomponents.testing.toy import ToyWorldModel
from wmcomponents.world_model import CapabilityError, Prediction, WorldModel

VECTOR = Composite(observation=Unbounded(3))


class Minimal(WorldModel):
    def __init__(self, **specs):
        super().__init__(
            **{"observation_spec": VECTOR, "action_spec": OneHot(2), "state_spec": Composite(s=Unbounded(2))} | specs
        )

    def observe(self, state, action, observation, is_init, noise):
        return {"s": observation["observation"][..., :2].clone()}

    def imagine(self, state, action, noise):
        return Prediction({"s": state["s"] + 1}, state["s"][..., :1] * 2, None)


@pytest.mark.parametrize(
    "specs, words",
    [
        ({"observation_spec": Unbounded(3)}, "Composite"),
        ({"observation_spec": VECTOR.expand(2)}, "ONE row"),
        ({"state_spec": Composite(deep=Composite(s=Unbounded(2)))}, "flat"),
        ({"noise_spec": Composite(observe=Composite(u=Unbounded(1)), u=Unbounded(1))}, "noise_spec"),
        ({"noise_spec": Composite(u=Bounded(-1, 1, (2,)))}, "uniform"),
    ],
)
def test_specs_that_break_the_protocol_are_refused(specs, words):
    with pytest.raises((TypeError, ValueError), match=words):
        Minimal(**specs)


def test_the_noise_of_both_verbs_may_be_given_once_or_apart():
    once = Minimal(noise_spec=Composite(u=Bounded(0, 1, (2,))))
    assert list(once.noise_spec["observe"].keys()) == list(once.noise_spec["imagine"].keys()) == ["u"]
    apart = Minimal(noise_spec=Composite(imagine=Composite(z=Unbounded(3))))
    assert apart.noise_source("observe").empty and not apart.noise_source("imagine").empty
    assert Minimal().noise_source("imagine").empty


def test_noise_is_drawn_from_the_callers_generator_only():
    source = Minimal(noise_spec=Composite(u=Bounded(0, 1, (2,)), n=Unbounded(3))).noise_source("imagine")
    torch.manual_seed(1)
    one = source((4, 2), torch.Generator().manual_seed(0))
    torch.manual_seed(2)
    other = source((4, 2), torch.Generator().manual_seed(0))
    assert one["u"].shape == (4, 2, 2) and one["n"].shape == (4, 2, 3)
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert one["u"].min() >= 0 and one["u"].max() < 1 and one["n"].min() < 0


def test_capabilities_are_the_verbs_that_are_written():
    assert Minimal().capabilities == {"reward", "continue"}
    assert PointMass().capabilities == {"reward", "continue", "decode"}


@pytest.mark.parametrize("verb", ["decode", "features", "value"])
def test_a_verb_that_is_not_there_says_what_to_do(verb):
    with pytest.raises(CapabilityError, match="Minimal"):
        getattr(Minimal(), verb)({"s": torch.zeros(2)})
    with pytest.raises(CapabilityError):
        Minimal().objective()
    with pytest.raises(CapabilityError, match=verb):
        Minimal().module(verb)


def test_require_names_model_driver_and_remedy():
    with pytest.raises(CapabilityError, match=r"a planner needs value of its model.*Minimal.*train a critic"):
        Minimal().require("value", driver="a planner", remedy="train a critic.")
    Minimal().require("reward", driver="a planner", remedy="")


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
def test_initial_states_have_any_leading_dims(lead):
    state = ToyWorldModel(VECTOR, OneHot(2)).initial_state(lead)
    assert {key: value.shape for key, value in state.items()} == {"memory": (*lead, 8), "z": (*lead, 8)}


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
def test_observing_a_sequence_is_observing_step_by_step(lead):
    model = ToyWorldModel(VECTOR, Bounded(-1, 1, (2,)), noise="normal")
    time = len(lead)
    action, observation = torch.randn(*lead, 4, 2), torch.randn(*lead, 4, 3)
    is_init = torch.zeros(*lead, 4, 1, dtype=torch.bool)
    is_init[..., 2, :] = True
    noise = model.noise_source("observe")((*lead, 4), torch.Generator())
    state = model.initial_state(lead)
    whole = model.observe_sequence(state, action, {"observation": observation}, is_init, noise)
    for t in range(4):
        state = model.observe(
            state,
            action.select(time, t),
            {"observation": observation.select(time, t)},
            is_init.select(time, t),
            {key: value.select(time, t) for key, value in noise.items()},
        )
        for key in state:
            torch.testing.assert_close(whole[key].select(time, t), state[key])


def content(model, *lead):
    state = {key: torch.rand(*lead, *leaf.shape) for key, leaf in model.state_spec.items()}
    return TensorDict(
        {
            **state,
            "action": torch.rand(*lead, 2),
            "prev_action": torch.rand(*lead, 2),
            "observation": torch.rand(*lead, 3),
            "is_init": torch.zeros(*lead, 1, dtype=torch.bool),
            "noise": TensorDict(base=torch.rand(*lead, 8)),
        },
        batch_size=lead,
    )


@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
@pytest.mark.parametrize("verb", ["observe", "imagine", "decode", "features", "value"])
def test_every_verb_has_a_tensordict_form_that_says_the_same(verb, lead):
    model = ToyWorldModel(VECTOR, Bounded(-1, 1, (2,)))
    td = content(model, *lead)
    state, noise = {key: td[key].clone() for key in model.state_spec.keys()}, {"base": td["noise", "base"]}
    module = model.module(verb)
    out = module(td.clone())
    if verb == "observe":
        expected = model.observe(state, td["prev_action"], {"observation": td["observation"]}, td["is_init"], noise)
    elif verb == "imagine":
        after, reward, cont = model.imagine(state, td["action"], noise)
        expected = {("next", key): value for key, value in (after | {"reward": reward, "continue": cont}).items()}
    elif verb == "decode":
        expected = model.decode(state)
    else:
        expected = {{"features": "latent", "value": "state_value"}[verb]: getattr(model, verb)(state)}
    assert set(module.out_keys) == set(expected)
    for key, value in expected.items():
        torch.testing.assert_close(out[key], value)


def test_without_noise_the_tensordict_form_takes_the_mode():
    model = ToyWorldModel(VECTOR, Bounded(-1, 1, (2,)))
    td = content(model, 3)
    out = model.module("imagine")(td.exclude("noise"))
    expected = model.imagine({key: td[key] for key in model.state_spec.keys()}, td["action"], None)
    torch.testing.assert_close(out["next", "z"], expected.state["z"])


def test_the_tensordict_forms_keys_can_be_renamed_and_sequenced():
    model = ToyWorldModel(VECTOR, Bounded(-1, 1, (2,)))
    dream = TensorDictSequential(
        model.module("imagine"),
        model.module("features", in_keys=[("next", "memory"), ("next", "z")], out_keys=[("next", "seen")]),
    )
    assert dream(content(model, 3))["next", "seen"].shape == (3, 16)
    with pytest.raises(ValueError, match="one for one"):
        model.module("features", in_keys=["memory"])
    with pytest.raises((ValueError, KeyError), match="verbs"):
        model.module("wish")


@pytest.mark.parametrize(("state", "observation"), [("x", "x"), ("action", "x"), ("s", "reward")])
def test_a_name_that_stands_for_two_things_is_refused(state, observation):
    class Named(WorldModel):
        def __init__(self):
            super().__init__(
                observation_spec=Composite({observation: Unbounded(2)}),
                action_spec=Unbounded(1),
                state_spec=Composite({state: Unbounded(2)}),
            )

        def observe(self, state, action, observation, is_init, noise): ...

        def imagine(self, state, action, noise): ...

    with pytest.raises(ValueError, match="must differ"):
        Named()
