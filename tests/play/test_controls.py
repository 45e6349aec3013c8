import pytest
import torch
from torchrl.data import Binary, Bounded, Categorical, MultiCategorical, MultiOneHot, OneHot, Unbounded

from wmcomponents.play import Controls, PlayError
from wmcomponents.play.controls import buttons_of

SPECS = {
    "one-hot": (OneHot(4), 2, [[0, 0, 1, 0]]),
    "index": (Categorical(4), 3, [3]),
    "index in a vector": (Categorical(4, (1,)), 3, [[3]]),
    "several one-hots": (MultiOneHot([2, 3]), [1, 2], [[0, 1, 0, 0, 1]]),
    "several indices": (MultiCategorical([2, 3]), [1, 2], [[1, 2]]),
    "switches": (Binary(3, (3,)), [1, 0, 1], [[1, 0, 1]]),
    "numbers": (Bounded(-2, 2, (2,)), [0.5, -7], [[0.5, -2.0]]),
    "whole numbers": (Bounded(0, 9, (1,), dtype=torch.int64), [3.6], [[4]]),
    "numbers without bounds": (Unbounded(2), [0.25, 3], [[0.25, 1.0]]),
}


@pytest.mark.parametrize("name", SPECS)
def test_a_value_becomes_the_action_that_the_spec_describes(name):
    spec, value, action = SPECS[name]
    controls = Controls(spec)
    read = controls.read(value)
    assert read.tolist() == action and read.dtype == spec.dtype and spec.is_in(read[0])


@pytest.mark.parametrize("name", SPECS)
def test_actions_are_told_as_values_and_read_back(name):
    controls = Controls(SPECS[name][0])
    for action in controls.alternatives():
        assert controls.read(controls.value_of(action))[0].tolist() == action.tolist()
        assert isinstance(controls.words(controls.value_of(action)), str)
    assert controls.read(controls.idle).shape == (1, *SPECS[name][0].shape)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("one-hot", 4),
        ("one-hot", -1),
        ("one-hot", True),
        ("one-hot", 1.0),
        ("one-hot", [1]),
        ("one-hot", None),
        ("several one-hots", [1]),
        ("several one-hots", [1, 3]),
        ("several one-hots", 1),
        ("numbers", [0.0]),
        ("numbers", [0.0, float("nan")]),
        ("numbers", [0.0, "1"]),
        ("numbers", [0.0, [1.0]]),
        ("switches", {"0": 1}),
    ],
)
def test_what_is_no_action_is_refused(name, value):
    with pytest.raises(PlayError, match="an action is"):
        Controls(SPECS[name][0]).read(value)


def test_actions_in_planes_have_no_controls():
    with pytest.raises(PlayError, match="a board"):
        Controls(Bounded(0, 3, (4, 4, 2), dtype=torch.int64))


def test_names_are_pressed_by_the_buttons_of_a_joystick():
    names = ["NOOP", "FIRE", "UPLEFT", "push right", "pick up", "2"]
    assert [buttons_of(name) for name in names] == [[], ["fire"], ["up", "left"], ["right"], None, None]
    told = Controls(OneHot(6), names).describe()
    assert told["idle"] == 0 and told["has_idle"] and told["names"] == [names]
    assert not Controls(OneHot(2), ["push left", "push right"]).describe()["has_idle"]


def test_names_that_do_not_fit_are_left_out():
    assert Controls(OneHot(3), ["a", "b"]).names == [["0", "1", "2"]]


def test_alternatives_are_few():
    assert len(Controls(OneHot(40)).alternatives()) == 18
    assert Controls(Bounded(-1, 1, (1,))).alternatives().tolist() == [[0.0], [-1.0], [1.0]]
