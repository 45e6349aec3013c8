"""From TorchRL's transitions to the papers' arrival sequences, translated once.

TorchRL stores transitions: at index t the observation x_t and the action a_t taken there; under ``next`` what followed.
The papers' recurrent models are trained on arrivals: at index t the observation x_t together with the action that led
to it, the reward received with it and whether it ended the episode. The two differ by a shift, and by one observation
per episode: the last, which a transition sequence holds only under ``next``.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from wmcomponents.functional.broadcast import aligned, keep_where


class ArrivalIndex(NamedTuple):
    """Where each arrival of a sequence comes from.

    Attributes:
        source: index of a transition in 0..T-1, int64 ``[B, L]``.
        is_next: whether the arrival is that transition's ``next`` observation (else its own), bool ``[B, L]``.
    """

    source: Tensor
    is_next: Tensor


def previous_action(action: Tensor) -> Tensor:
    """Shift actions by one along time: index t holds the action that led to observation t; the first is zero.

    Args:
        action: a_t at index t, ``[B, T, ...]``.
    """
    return torch.cat([torch.zeros_like(action[:, :1]), action[:, :-1]], dim=1)


def arrival_index(done: Tensor) -> ArrivalIndex:
    """Index arithmetic that turns T transitions into T + 1 arrivals.

    Every transition gives its own observation. Where an episode ends, and after the last transition, the ``next``
    observation is an arrival too. Ends inside the sequence push the tail out, so that the length is T + 1 whatever
    happens: no dynamic shapes, no loop.

    Args:
        done: bool ``[B, T]``, whether the transition ended its episode.

    Returns:
        The source of each of the T + 1 arrivals.
    """
    batch, time = done.shape
    device = done.device
    steps = torch.arange(time, device=device).expand(batch, time)
    ends = done.long()
    place = steps + ends.cumsum(1) - ends
    # The last transition's next observation is an arrival whether or not it ended an episode.
    extra = done.clone()
    extra[:, -1] = True
    spill = 2 * time + 1
    source = torch.zeros(batch, spill, dtype=torch.int64, device=device)
    is_next = torch.zeros(batch, spill, dtype=torch.bool, device=device)
    source.scatter_(1, place, steps)
    after = torch.where(extra, place + 1, spill - 1)
    source.scatter_(1, after, steps)
    is_next.scatter_(1, after, extra)
    length = time + 1
    return ArrivalIndex(source[:, :length], is_next[:, :length])


def gather_arrivals(index: ArrivalIndex, here: Tensor, following: Tensor) -> Tensor:
    """Observations along arrivals.

    Args:
        index: of :func:`arrival_index`.
        here: x_t at index t, ``[B, T, ...]``.
        following: x_{t+1} at index t, ``[B, T, ...]``.

    Returns:
        ``[B, T + 1, ...]``.
    """
    rows = torch.arange(here.shape[0], device=here.device)[:, None]
    own, after = here[rows, index.source], following[rows, index.source]
    return torch.where(aligned(index.is_next, after), after, own)


def gather_causes(index: ArrivalIndex, cause: Tensor) -> Tensor:
    """What led to each arrival (action, reward, termination); zero where an arrival has no known cause.

    The first arrival of the sequence and the first of each episode inside it have none.

    Args:
        index: of :func:`arrival_index`.
        cause: the quantity of transition t at index t, ``[B, T, ...]``.

    Returns:
        ``[B, T + 1, ...]``.
    """
    rows = torch.arange(cause.shape[0], device=cause.device)[:, None]
    # An arrival under `next` was caused by its own transition; any other by the transition before it, unless the
    # arrival before it already used that one up (it ended an episode).
    previous = (index.source - 1).clamp_min(0)
    led = torch.where(index.is_next, index.source, previous)
    used_up = torch.zeros_like(index.is_next)
    used_up[:, 1:] = index.is_next[:, :-1]
    known = index.is_next | (~used_up & (index.source > 0))
    return keep_where(cause[rows, led], known)
