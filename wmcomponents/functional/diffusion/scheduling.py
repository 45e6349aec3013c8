"""Scheduling matrices: which frame of a film is how noisy in each round of sampling.

Rows are rounds, columns are frames; an entry counts steps that are left, from S for noise to 0 for clean. The first row
is all S, the last all 0, and no frame gets noisier.
"""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor


def full_sequence_schedule(frames: int, steps: int) -> Int[Tensor, "rounds frames"]:
    """All frames at once, as in an ordinary film model.

    Args:
        frames: H.
        steps: S, of each frame.
    """
    _check(frames, steps, 0.0)
    return _rows(torch.zeros(frames, dtype=torch.int64), steps, steps + 1)


def pyramid_schedule(frames: int, steps: int, uncertainty: float = 1.0) -> Int[Tensor, "rounds frames"]:
    r"""Each frame behind the one before it: :math:`clip(S + \lfloor t u \rfloor - m, 0, S)`.

    Args:
        frames: H.
        steps: S, of each frame.
        uncertainty: u, how many rounds a frame is behind the one before it.

    Reference: Chen et al., Diffusion Forcing (2024), section 3.3.

    Example:
        >>> pyramid_schedule(frames=2, steps=2).tolist()
        [[2, 2], [1, 2], [0, 1], [0, 0]]
    """
    _check(frames, steps, uncertainty)
    late = (torch.arange(frames, dtype=torch.float64) * uncertainty).long()
    return _rows(late, steps, steps + int(late[-1]) + 1)


def autoregressive_schedule(frames: int, steps: int) -> Int[Tensor, "rounds frames"]:
    """One frame after the other: the pyramid in which each waits until the one before it is clean.

    Args:
        frames: H.
        steps: S, of each frame.
    """
    return pyramid_schedule(frames, steps, float(steps))


def trapezoid_schedule(
    frames: int, steps: int, uncertainty: float = 1.0, *, as_published: bool = False
) -> Int[Tensor, "rounds frames"]:
    """Both ends first, the middle last: for films of which the end is known too.

    The official code counts the columns of the second half one too far, so that an even number of frames has one that
    is clean from the start; here the halves mirror each other.

    Args:
        frames: H.
        steps: S, of each frame.
        uncertainty: how many rounds a frame is behind its neighbour on the outer side.
        as_published: count the columns of the second half, and the rounds, as the official code does: of an even number
            of frames one is then clean from the start, and below an uncertainty of 1 the last row may be noisy still.

    Reference: Chen et al., Diffusion Forcing (2024); github.com/buoyancy99/diffusion-forcing.

    Example:
        >>> trapezoid_schedule(frames=4, steps=2).tolist()
        [[2, 2, 2, 2], [1, 2, 2, 1], [0, 1, 1, 0], [0, 0, 0, 0]]
    """
    _check(frames, steps, uncertainty)
    place = torch.arange(frames)
    if as_published:
        late = (torch.minimum(place, frames - place).double() * uncertainty).long()
        rows = _rows(late, steps, steps + int((frames + 1) // 2 * uncertainty))
        return rows if frames % 2 else rows.index_fill(1, torch.tensor([frames // 2]), 0)
    late = (torch.minimum(place, frames - 1 - place).double() * uncertainty).long()
    return _rows(late, steps, steps + int(late.max()) + 1)


ScheduleName = Literal["autoregressive", "pyramid", "trapezoid", "full_sequence"]
"""Names of scheduling matrices in configs."""

SCHEDULES: dict[ScheduleName, Callable[[int, int], Tensor]] = {
    "autoregressive": autoregressive_schedule,
    "pyramid": pyramid_schedule,
    "trapezoid": trapezoid_schedule,
    "full_sequence": full_sequence_schedule,
}


def _rows(late: Tensor, steps: int, rounds: int) -> Tensor:
    """The matrix of columns that begin as many rounds late."""
    return (steps + late - torch.arange(rounds)[:, None]).clamp(0, steps)


def _check(frames: int, steps: int, uncertainty: float) -> None:
    if frames < 1 or steps < 1 or uncertainty < 0.0:
        raise ValueError(
            f"a scheduling matrix has at least one frame and one step, and uncertainty is at least 0; got "
            f"frames={frames}, steps={steps}, uncertainty={uncertainty}."
        )
