"""Value targets of MuZero's family: n rewards, then the value of the state that they led to."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class EpisodeTail(NamedTuple):
    """What is known of an episode after each of its steps.

    Attributes:
        left: known steps that follow, int64 ``[B, L]``.
        ends: whether the last of them is known to end the episode by termination, bool ``[B, L]``.
    """

    left: Tensor
    ends: Tensor


def episode_tail(
    is_init: Bool[Tensor, "b l"], terminated: Bool[Tensor, "b l"], valid: Bool[Tensor, "b l"]
) -> EpisodeTail:
    """How far each step's episode is known.

    Args:
        is_init: whether a step begins an episode, or begins anew after a cut.
        terminated: whether a step ended its episode.
        valid: false where the data are padding.
    """
    length = is_init.shape[1]
    goes_on = torch.zeros_like(is_init)
    goes_on[:, :-1] = ~is_init[:, 1:] & valid[:, 1:] & valid[:, :-1]
    steps = torch.arange(length, device=is_init.device).expand_as(is_init)
    # The next index at which the episode does not go on, found from behind.
    stop = torch.where(goes_on, length - 1, steps).flip(1).cummin(1).values.flip(1)
    return EpisodeTail(stop - steps, terminated.gather(1, stop))


def n_step_return(
    reward: Float[Tensor, "b l"],
    value: Float[Tensor, "b l"],
    left: Int[Tensor, "b l"],
    ends: Bool[Tensor, "b l"],
    n: int,
    discount: float,
    players: int = 1,
) -> Float[Tensor, "b l"]:
    r"""Target of the value of every step (MuZero, appendix G).

    .. math:: z_t = \sum_{i < m} \gamma^i r_{t+i+1} + \gamma^m v_{t+m}, \qquad m = \min(n, \text{left}_t)

    Nothing follows a termination: no value is added where the m steps reach it. Where an episode is known no further,
    the last known step's value takes the rest's place.

    Args:
        reward: received on arriving at each step.
        value: of each step: a search's, or a target network's.
        left: known steps that follow each (:func:`episode_tail`).
        ends: whether the last of those ends the episode.
        n: longest sum.
        discount: gamma.
        players: with 2, who move in turn, rewards and values of the other player's steps count negative: a reward is
            the mover's, a value that of the player to move.

    Raises:
        ValueError: if n is below 1.
    """
    if n < 1:
        raise ValueError(f"n is the number of rewards in a target, at least 1; got {n}.")
    sign = -1.0 if players == 2 else 1.0
    length = reward.shape[1]
    steps = torch.arange(length, device=reward.device).expand_as(left)
    total = torch.zeros_like(reward)
    for i in range(min(n, length - 1)):
        received = reward.roll(-(i + 1), 1)
        total = total + torch.where(i < left, (sign * discount) ** i * received, 0.0)
    m = left.clamp(max=n)
    rest = (sign * discount) ** m * value.gather(1, steps + m)
    return total + torch.where(ends & (m == left), 0.0, rest)
