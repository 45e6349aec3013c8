"""What several actions come to."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchrl.data import Bounded, Categorical, OneHot

from wmcomponents.codecs import ActionVector, PoseMotion, SummedMotion, motion_named

LOW, HIGH = torch.tensor([-2.5, -4.0, -math.pi]), torch.tensor([5.0, 4.0, math.pi])
STEP = Bounded(LOW, HIGH, (3,))


@pytest.mark.parametrize("spec", [Bounded(-2.0, 2.0, (2,)), Bounded(LOW, HIGH, (3,)), OneHot(4), Categorical(3)])
def test_the_displacement_of_one_action_that_adds_up_is_its_vector(spec):
    vector, motion = ActionVector(spec), SummedMotion(spec)
    action = vector(spec.rand((5,)))
    torch.testing.assert_close(motion.of_action(action), action)
    places = motion.places(action.unsqueeze(0))
    torch.testing.assert_close(motion.between(places[:, 2], places[:, 3]), action[2:3])


def test_a_step_of_a_robot_is_told_as_nwm_tells_it():
    motion = PoseMotion(STEP)
    vector = ActionVector(STEP)(torch.tensor([1.0, -2.0, 0.5]))
    told = torch.tensor([2 * (1.0 + 2.5) / 7.5 - 1, 2 * (-2.0 + 4.0) / 8.0 - 1, 0.5])
    torch.testing.assert_close(motion.of_action(vector), told)
    still = motion.between(torch.zeros(3), torch.zeros(3))
    torch.testing.assert_close(still, torch.tensor([-1 / 3, 0.0, 0.0]))  # no displacement is not 0 there


@pytest.mark.parametrize("motion", [PoseMotion(STEP), SummedMotion(STEP)])
@given(start=st.integers(0, 6), goal=st.integers(0, 6))
def test_displacements_do_not_depend_on_what_was_done_before_and_go_both_ways(motion, start, goal):
    torch.manual_seed(0)
    action = torch.rand(6, 3) * 2 - 1
    places = motion.places(action)
    found = motion.between(places[start], places[goal])
    if goal > start:
        torch.testing.assert_close(
            found, motion.between(*motion.places(action[start:goal])[[0, -1]]), atol=1e-5, rtol=0
        )
    if isinstance(motion, SummedMotion):
        back = motion.between(places[goal], places[start])
        still = motion.between(places[0], places[0])
        torch.testing.assert_close(found + back, 2 * still, atol=1e-5, rtol=0)


def test_an_action_taken_four_times_turns_a_square():
    motion = PoseMotion(Bounded(-2.0, 2.0, (3,)))
    step = torch.tensor([1.0, 0.0, math.pi / 2]) / 2
    torch.testing.assert_close(motion.of_action(step, times=4), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(motion.of_action(step, times=2), torch.tensor([0.5, 0.5, -math.pi]), atol=1e-6, rtol=0)


def test_actions_that_are_no_steps_of_a_robot_are_refused():
    for spec in (Bounded(-1, 1, (2,)), OneHot(3), Bounded(-1, 1, (1, 3))):
        with pytest.raises(ValueError, match="three numbers"):
            motion_named("pose", spec)
    with pytest.raises(ValueError, match="'sum', 'pose'; got 'walk'"):
        motion_named("walk", STEP)
