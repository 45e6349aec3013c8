"""Value targets of MuZero's family: n rewards, then the value of the state that they led to."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class EpisodeTail(NamedTuple):
    """What is known of an episode after each of its steps.

    Attributes:
        steps_remaining: known steps that follow, int64 ``[B, L]``.
        terminates: whether the last of them is known to end the episode by termination, bool ``[B, L]``.
    """

    steps_remaining: Tensor
    terminates: Tensor


def episode_tail(
    is_init: Bool[Tensor, "b l"], terminated: Bool[Tensor, "b l"], valid: Bool[Tensor, "b l"]
) -> EpisodeTail:
    """How far each step's episode is known.

    Args:
        is_init: whether a step begins an episode, or begins anew after a cut, bool ``[B, L]``.
        terminated: whether a step ended its episode, bool ``[B, L]``.
        valid: false where the data are padding, bool ``[B, L]``.
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
    tail: EpisodeTail,
    n: int,
    discount: float,
    players: int = 1,
) -> Float[Tensor, "b l"]:
    r"""Target of the value of every step (MuZero, appendix G).

    .. math:: z_t = \sum_{i < m} \gamma^i r_{t+i+1} + \gamma^m v_{t+m}, \qquad m = \min(n, \text{steps remaining}_t)

    Nothing follows a termination: no value is added where the m steps reach it. Where an episode is known no further,
    the last known step's value takes the rest's place.

    Args:
        reward: received on arriving at each step, ``[B, L]``.
        value: of each step, a search's or a target network's, ``[B, L]``.
        tail: what is known of the episode after each step (:func:`episode_tail`).
        n: longest sum.
        discount: gamma.
        players: with 2, who move in turn, rewards and values of the other player's steps count negative: a reward is
            the mover's, a value that of the player to move.

    Returns:
        The targets, ``[B, L]``.

    Raises:
        ValueError: if n is below 1.
    """
    if n < 1:
        raise ValueError(f"n is the number of rewards in a target, at least 1; got {n}.")
    sign = -1.0 if players == 2 else 1.0
    remaining, terminates = tail
    length = reward.shape[1]
    steps = torch.arange(length, device=reward.device).expand_as(remaining)
    total = torch.zeros_like(reward)
    for i in range(min(n, length - 1)):
        received = reward.roll(-(i + 1), 1)
        total = total + torch.where(i < remaining, (sign * discount) ** i * received, 0.0)
    m = remaining.clamp(max=n)
    rest = (sign * discount) ** m * value.gather(1, steps + m)
    return total + torch.where(terminates & (m == remaining), 0.0, rest)
