"""Poses and steps: laws."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from wmcomponents.functional import (
    euler_to_matrix,
    feature_distances,
    growing_frame_cost,
    last_frame_cost,
    matrix_to_euler,
    pose_after,
    pose_difference,
)

SEEDS = st.integers(0, 2**16)


def poses(seed: int, count: int = 6, tilt: float = 1.5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = 2 * torch.rand(count, 7, generator=generator, dtype=torch.float64) - 1
    scale = torch.tensor([1, 1, 1, 3.1, tilt, 3.1, 0.5], dtype=torch.float64)
    return drawn * scale + torch.tensor([0, 0, 0, 0, 0, 0, 0.5], dtype=torch.float64)


def about(axis: int, angle: torch.Tensor) -> torch.Tensor:
    """The rotation about one axis, as the exponential of its generator."""
    generator = torch.zeros(3, 3, dtype=torch.float64)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    generator[first, second], generator[second, first] = -1.0, 1.0
    return torch.matrix_exp(angle.view(-1, 1, 1) * generator)


@given(SEEDS)
def test_angles_are_those_about_fixed_axes(seed):
    angles = poses(seed)[:, 3:6]
    x, y, z = (about(axis, angles[:, axis]) for axis in range(3))
    expected = z @ y @ x
    torch.testing.assert_close(euler_to_matrix(angles), expected)
    torch.testing.assert_close(matrix_to_euler(expected), angles)


def test_at_the_poles_the_rotation_is_right_though_its_angles_are_open():
    angles = torch.tensor([[0.3, math.pi / 2, 0.2], [-1.0, -math.pi / 2, 0.4]], dtype=torch.float64)
    matrix = euler_to_matrix(angles)
    torch.testing.assert_close(euler_to_matrix(matrix_to_euler(matrix)), matrix)


@given(SEEDS, SEEDS)
def test_the_step_between_two_poses_leads_from_one_to_the_other(first, second):
    start, end = poses(first), poses(second)
    torch.testing.assert_close(pose_after(start, pose_difference(start, end)), end)
    nothing = torch.zeros(6, 7, dtype=torch.float64)
    torch.testing.assert_close(pose_after(start, nothing), start)
    torch.testing.assert_close(pose_difference(start, start), nothing, rtol=0, atol=1e-12)


def test_a_gripper_opens_and_closes_no_further_than_it_can():
    pose, step = torch.zeros(2, 7), torch.zeros(2, 7)
    step[:, 6] = torch.tensor([3.0, -3.0])
    assert pose_after(pose, step)[:, 6].tolist() == [1.0, 0.0]


def test_steps_have_a_gradient_where_planners_begin():
    step = torch.zeros(3, 7, requires_grad=True)
    pose_after(torch.zeros(3, 7), step).sum().backward()
    assert step.grad.isfinite().all()


def test_costs_of_goals_are_those_worked_out_by_hand():
    frames, goal = torch.tensor([0.0, 1.0, 3.0]).view(1, 3, 1, 1).expand(1, 3, 2, 4), torch.ones(2, 4)
    distances = feature_distances(frames, goal)
    assert distances.tolist() == [[1.0, 0.0, 4.0]]
    assert last_frame_cost(distances).tolist() == [4.0]
    assert torch.allclose(growing_frame_cost(distances), torch.tensor([(1 / 7 + 16 / 7) / 3]))
