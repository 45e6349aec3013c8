"""Steps over the ground: from poses on a map to displacements in a robot's own axes, and straight lines as plans."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def wrapped_angle(angle: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    r"""The same direction between :math:`-\pi` and :math:`\pi`, the latter without.

    Args:
        angle: in radians.
    """
    return (angle + math.pi) % (2.0 * math.pi) - math.pi


def local_displacements(
    position: Float[Tensor, "*batch t 2"], yaw: Float[Tensor, "*batch t"]
) -> tuple[Float[Tensor, "*batch t 2"], Float[Tensor, "*batch t"]]:
    """Where poses lie as seen from the first of them: forward and left, and by how much they turned.

    Args:
        position: on a map, in metres or in any unit of length.
        yaw: heading against the map's first axis, in radians.

    Returns:
        Displacements, in the same unit, and turns, wrapped.

    Reference: Bar et al., Navigation World Models (2024), and its code.
    """
    apart = position - position[..., :1, :]
    cosine, sine = yaw[..., :1].cos(), yaw[..., :1].sin()
    x, y = apart.unbind(-1)
    local = torch.stack([x * cosine + y * sine, y * cosine - x * sine], -1)
    return local, wrapped_angle(yaw - yaw[..., :1])


def poses_along(steps: Float[Tensor, "*batch t 3"]) -> Float[Tensor, "*batch t1 3"]:
    """Where a robot stands before and after each of its steps, as seen from where it began: forward, left, turn.

    Args:
        steps: each in the robot's own axes before it: forward, left, then the turn.

    Returns:
        ``[*B, T + 1, 3]``, of which the first is 0; turns are not wrapped.

    >>> square = torch.tensor([[1.0, 0.0, math.pi / 2]]).expand(4, 3)
    >>> bool((poses_along(square)[-1, :2].abs() < 1e-6).all())
    True
    """
    start = steps.new_zeros(*steps.shape[:-2], 1, 3)
    yaw = torch.cat([start[..., 2], steps[..., 2].cumsum(-1)], -1)
    cosine, sine = yaw[..., :-1].cos(), yaw[..., :-1].sin()
    forward, left = steps[..., 0], steps[..., 1]
    moves = torch.stack([forward * cosine - left * sine, forward * sine + left * cosine], -1)
    position = torch.cat([start[..., :2], moves.cumsum(-2)], -2)
    return torch.cat([position, yaw.unsqueeze(-1)], -1)


def pose_between(start: Float[Tensor, "*batch 3"], goal: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """One pose as seen from another: forward, left, turn, the latter wrapped.

    Args:
        start: from where it is seen, as :func:`poses_along` gives poses.
        goal: what is seen.
    """
    both = torch.stack([start, goal], -2)
    seen, turn = local_displacements(both[..., :2], both[..., 2])
    return torch.cat([seen[..., 1, :], turn[..., 1:]], -1)


def to_bounds(
    x: Float[Tensor, "*batch n"], low: Float[Tensor, " n"], high: Float[Tensor, " n"]
) -> Float[Tensor, "*batch n"]:
    """Numbers between bounds as numbers from -1 to 1; what lies outside stays outside. No displacement is not 0 then.

    Args:
        x: numbers.
        low: what becomes -1.
        high: what becomes 1.
    """
    return 2.0 * (x - low) / (high - low) - 1.0


def from_bounds(
    x: Float[Tensor, "*batch n"], low: Float[Tensor, " n"], high: Float[Tensor, " n"]
) -> Float[Tensor, "*batch n"]:
    """The way back from :func:`to_bounds`.

    Args:
        x: numbers from -1 to 1.
        low: what -1 becomes.
        high: what 1 becomes.
    """
    return (x + 1.0) / 2.0 * (high - low) + low


def waypoint_steps(waypoints: Float[Tensor, "*batch t n"]) -> Float[Tensor, "*batch s n"]:
    """From one waypoint to the next, where the first step is the second waypoint itself.

    Scaled waypoints have an offset, which the first step thereby keeps, as a step of training does; later ones, being
    differences, have none.

    Args:
        waypoints: the first of them is where one stands.

    Returns:
        ``[*B, T - 1, n]``.

    Reference: Bar et al., Navigation World Models (2024), and the evaluation in its code.
    """
    return torch.cat([waypoints[..., 1:2, :], waypoints[..., 1:, :].diff(dim=-2)], -2)


def straight_line(step: Float[Tensor, "*batch 2"], count: int) -> Float[Tensor, "*batch k 3"]:
    """A plan that turns towards where it goes, then takes equal steps: forward, left, turn.

    Args:
        step: each step, in the unit of the world.
        count: K, how many.

    Raises:
        ValueError: for less than one step.

    Reference: Bar et al., Navigation World Models (2024), section 3.3.

    >>> straight_line(torch.tensor([1.0, 0.0]), 2).tolist()
    [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    """
    if count < 1:
        raise ValueError(f"a plan has at least one step; got {count}.")
    heading = torch.atan2(step[..., 1:], step[..., :1])
    turns = torch.cat([heading, heading.new_zeros(*heading.shape[:-1], count - 1)], -1)
    return torch.cat([step.unsqueeze(-2).expand(*step.shape[:-1], count, 2), turns.unsqueeze(-1)], -1)
