"""Steps over the ground."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.golden_vectors import load
from wmcomponents.functional import (
    from_bounds,
    local_displacements,
    pose_between,
    poses_along,
    straight_line,
    to_bounds,
    waypoint_steps,
    wrapped_angle,
)

LOW, HIGH = torch.tensor([-2.5, -4.0]), torch.tensor([5.0, 4.0])


def test_displacements_and_plans_are_nwms():
    info, tensors = load("nwm_action_utils")
    assert info["config"]["action_stats"] == {"min": LOW.tolist(), "max": HIGH.tolist()}
    close = info["tolerance"]
    local, turn = local_displacements(tensors["in/positions"], tensors["in/yaw"])
    scaled = to_bounds(local, LOW, HIGH)
    for ours, key in ((local, "local"), (turn, "dyaw"), (scaled, "normalised")):
        torch.testing.assert_close(ours, tensors[f"out/{key}"], **close)
    steps = waypoint_steps(torch.cat([scaled, turn.unsqueeze(-1)], -1))
    torch.testing.assert_close(steps, tensors["out/deltas_np"], **close)
    plan = straight_line(from_bounds(tensors["in/plan_delta_xy_normalised"], LOW, HIGH), 8)
    torch.testing.assert_close(plan[..., :2], tensors["out/plan_unnormalised"], **close)
    torch.testing.assert_close(plan[..., 2:], tensors["out/plan_delta_yaw"], **close)
    torch.testing.assert_close(plan[..., :2].cumsum(1), tensors["out/plan_actions_cumsum"], **close)


@given(st.floats(-50, 50), st.integers(-3, 3))
def test_an_angle_and_the_same_some_turns_on_are_one_direction(angle, turns):
    x = torch.tensor(angle, dtype=torch.float64)
    wrapped = wrapped_angle(x + 2 * math.pi * turns)
    assert -math.pi <= float(wrapped) < math.pi
    torch.testing.assert_close(wrapped.cos(), x.cos(), atol=1e-9, rtol=0)
    torch.testing.assert_close(wrapped.sin(), x.sin(), atol=1e-9, rtol=0)


@given(st.floats(-3, 3), st.floats(-10, 10), st.floats(-10, 10))
def test_displacements_are_the_same_wherever_the_map_begins_and_points(turn, x, y):
    torch.manual_seed(0)
    position, yaw = torch.randn(5, 2).double(), torch.randn(5).double()
    c, s = math.cos(turn), math.sin(turn)
    moved = position @ torch.tensor([[c, s], [-s, c]]).double() + torch.tensor([x, y]).double()
    (there, turned), (here, before) = local_displacements(moved, yaw + turn), local_displacements(position, yaw)
    torch.testing.assert_close(there, here)
    torch.testing.assert_close(turned.cos(), before.cos())
    torch.testing.assert_close(from_bounds(to_bounds(here, LOW, HIGH), LOW, HIGH), here)


def test_steps_in_a_robots_own_axes_lead_to_the_displacements_that_nwm_takes_from_a_map():
    info, tensors = load("nwm_action_utils")
    position, yaw = tensors["in/positions"], tensors["in/yaw"]
    pairs = [local_displacements(position[t : t + 2], yaw[t : t + 2]) for t in range(len(yaw) - 1)]
    poses = poses_along(torch.stack([torch.cat([seen[1], turn[1:]]) for seen, turn in pairs]))
    torch.testing.assert_close(poses[:, :2], tensors["out/local"], **info["tolerance"])
    torch.testing.assert_close(wrapped_angle(poses[:, 2]), tensors["out/dyaw"], **info["tolerance"])
    for start, goal in ((0, 5), (2, 4), (4, 1)):  # an earlier one too
        seen, turn = local_displacements(position[[start, goal]], yaw[[start, goal]])
        found = pose_between(poses[start], poses[goal])
        torch.testing.assert_close(found, torch.cat([seen[1], turn[1:]]), **info["tolerance"])


def test_a_plan_has_steps():
    with pytest.raises(ValueError, match="at least one step"):
        straight_line(torch.zeros(2), 0)
