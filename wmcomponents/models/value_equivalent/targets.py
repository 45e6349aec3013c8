"""What the unrolled latents of MuZero's family are held to."""

from typing import NamedTuple

import torch
from torch import Tensor

from wmcomponents.codecs import PolicyDistribution
from wmcomponents.functional.broadcast import aligned
from wmcomponents.functional.n_step import EpisodeTail
from wmcomponents.models.value_equivalent.search import policy_targets
from wmcomponents.objectives.arrivals import Arrivals


class Targets(NamedTuple):
    """What the model is held to at S starts, K steps on; index 0 of K + 1 is the start itself.

    Attributes:
        reward: reward of the step that led there, ``[B, S, K + 1]``; 0 at the start.
        value: value, ``[B, S, K + 1]``.
        policy: probabilities of choices, or the action itself where actions are numbers, ``[B, S, K + 1, A]``.
        cont: whether the episode goes on there, ``[B, S, K + 1]``.
        action: vectors of the actions that led there, ``[B, S, K + 1, A]``; random beyond an episode's end.
        masks: by loss, which of these are known, bool ``[B, S, K + 1]``.
    """

    reward: Tensor
    value: Tensor
    policy: Tensor
    cont: Tensor
    action: Tensor
    masks: dict[str, Tensor]


def unroll_targets(
    arrivals: Arrivals,
    action: Tensor,
    returns: Tensor,
    tail: EpisodeTail,
    starts: Tensor,
    *,
    unroll: int,
    absorbing: bool,
    policy: PolicyDistribution,
    generator: torch.Generator,
) -> Targets:
    """Targets of every start and of K steps along the real actions behind it.

    Args:
        arrivals: observations, rewards and ends, ``[B, L]``, with a search's results where there are any.
        action: vectors of the actions that led to each arrival, ``[B, L, A]``.
        returns: target of the value of each arrival, ``[B, L]``.
        tail: what is known of the episode after each arrival, ``[B, L]``.
        starts: indices of the starts, int64 ``[B, S]``.
        unroll: K.
        absorbing: whether steps beyond a termination are known, as states without reward and value.
        policy: the policy's distribution; its uniform target stands where none is known.
        generator: draws the actions beyond an episode's end.
    """
    policy_target, has_policy = policy_targets(arrivals, action, tail)
    remaining, terminates = (gather_steps(value, starts).unsqueeze(-1) for value in tail)
    steps = torch.arange(unroll + 1, device=starts.device)
    index = starts.unsqueeze(-1) + steps.minimum(remaining)  # never past what is known
    is_known, is_at_end = steps <= remaining, (steps >= remaining) & terminates
    is_beyond = (steps > remaining) & terminates
    follows = is_known & (steps > 0)
    has_policy = gather_steps(has_policy, index) & (steps < remaining)
    policy_target = gather_steps(policy_target, index)
    policy_target = torch.where(has_policy.unsqueeze(-1), policy_target, policy.uniform(policy_target))
    random = policy.random(index.shape, generator)
    nothing = torch.zeros_like(is_beyond)
    return Targets(
        reward=torch.where(follows, gather_steps(arrivals.reward.squeeze(-1), index), 0.0),
        value=torch.where(is_at_end, 0.0, gather_steps(returns, index)),
        policy=policy_target,
        cont=1.0 - gather_steps(arrivals.terminated.squeeze(-1).to(arrivals.reward.dtype), index),
        action=torch.where(is_known.unsqueeze(-1), gather_steps(action, index), random),
        masks={
            "policy": has_policy | (is_at_end if absorbing else nothing),
            "value": (steps < remaining) | (is_at_end if absorbing else nothing),
            "reward": follows | (is_beyond if absorbing else nothing),
            "continue": follows,
            "consistency": follows,
            "agreement": follows,
        },
    )


def gather_steps(x: Tensor, index: Tensor) -> Tensor:
    """Steps of a sequence, ``[B, L, ...]`` at ``[B, *index]``: ``[B, *index, ...]``."""
    rows = aligned(torch.arange(x.shape[0], device=x.device), index)
    return x[rows, index]
