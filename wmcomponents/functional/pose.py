"""Poses of a gripper: position, Euler angles about fixed axes, and how far it is closed; and the steps between them."""

import torch
from jaxtyping import Float
from torch import Tensor

POSITION, ROTATION, GRIPPER = slice(0, 3), slice(3, 6), slice(6, 7)
"""Where they stand in the seven numbers of a pose, and of a step."""


def euler_to_matrix(angles: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The rotation about the fixed axes x, then y, then z: ``Rz Ry Rx`` (scipy's "xyz").

    Args:
        angles: about x, y and z, in radians.
    """
    (sx, sy, sz), (cx, cy, cz) = angles.sin().unbind(-1), angles.cos().unbind(-1)
    rows = [
        torch.stack([cy * cz, sx * sy * cz - cx * sz, cx * sy * cz + sx * sz], -1),
        torch.stack([cy * sz, sx * sy * sz + cx * cz, cx * sy * sz - sx * cz], -1),
        torch.stack([-sy, sx * cy, cx * cy], -1),
    ]
    return torch.stack(rows, -2)


def matrix_to_euler(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """The angles of :func:`euler_to_matrix`, that about y in [-pi/2, pi/2].

    Where it is at a border, only the difference or sum of the others matters, and which of them is given is open.

    Args:
        matrix: a rotation.
    """
    # Its cosine out of two entries: the arc sine alone would lose half the digits near the borders.
    cosine = torch.linalg.vector_norm(matrix[..., 0:2, 0], dim=-1)
    return torch.stack(
        [
            torch.atan2(matrix[..., 2, 1], matrix[..., 2, 2]),
            torch.atan2(-matrix[..., 2, 0], cosine),
            torch.atan2(matrix[..., 1, 0], matrix[..., 0, 0]),
        ],
        -1,
    )


def pose_after(pose: Float[Tensor, "*batch 7"], step: Float[Tensor, "*batch 7"]) -> Float[Tensor, "*batch 7"]:
    """The pose that a step leads to: positions add, rotations follow on each other, the gripper stays in [0, 1].

    Args:
        pose: in the frame of the robot's base.
        step: likewise.

    Reference: Assran et al., V-JEPA 2 (2025), section 3, and its code.
    """
    rotation = euler_to_matrix(step[..., ROTATION]) @ euler_to_matrix(pose[..., ROTATION])
    gripper = (pose[..., GRIPPER] + step[..., GRIPPER]).clamp(0.0, 1.0)
    return torch.cat([pose[..., POSITION] + step[..., POSITION], matrix_to_euler(rotation), gripper], -1)


def pose_difference(start: Float[Tensor, "*batch 7"], end: Float[Tensor, "*batch 7"]) -> Float[Tensor, "*batch 7"]:
    """The step from one pose to another, undone by none of :func:`pose_after` but the gripper's limits.

    Args:
        start: where it begins.
        end: where it leads.

    Reference: Assran et al., V-JEPA 2 (2025), section 3, and its code.
    """
    rotation = euler_to_matrix(end[..., ROTATION]) @ euler_to_matrix(start[..., ROTATION]).mT
    return torch.cat(
        [
            end[..., POSITION] - start[..., POSITION],
            matrix_to_euler(rotation),
            end[..., GRIPPER] - start[..., GRIPPER],
        ],
        -1,
    )
