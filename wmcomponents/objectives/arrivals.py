"""TorchRL-layout sequences as the arrival sequences that the recurrent papers train on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor

from wmcomponents.functional.arrival import arrival_index, gather_arrivals, gather_causes
from wmcomponents.functional.broadcast import keep_where
from wmcomponents.world_model import Observation


@dataclass
class Arrivals:
    """L consecutive observations of each of B rows, each with what led to it.

    Attributes:
        observation: x_t, ``[B, L, ...]`` each.
        action: the action that led to x_t, ``[B, L, ...]``; zero where none did.
        is_init: whether x_t begins its episode, bool ``[B, L, 1]``.
        reward: reward received on arriving at x_t, ``[B, L, 1]``; zero at the start of an episode.
        terminated: whether x_t ended its episode by termination, bool ``[B, L, 1]``.
        reward_known: whether the reward is known: everywhere but at an x_t that neither begins its episode nor follows
            another x of it, bool ``[B, L, 1]``.
        weight: weight of each element in the losses, ``[B, L]``; 0 where the data were padding or a priority says so.
        real: whether the data were no padding, bool ``[B, L]``.
    """

    observation: Observation
    action: Tensor
    is_init: Tensor
    reward: Tensor
    terminated: Tensor
    reward_known: Tensor
    weight: Tensor
    real: Tensor


class Transitions(NamedTuple):
    """T transitions of each of B rows as TorchRL lays them out, without observations and actions; all ``[B, T]``.

    Attributes:
        reward: r_{t+1}; zero in padding.
        terminated: whether the episode ends with t + 1 by termination, bool; false in padding.
        ends: whether the episode ends with t + 1 at all, bool.
        begins: whether the episode begins with t, bool.
        real: whether the transition is no padding, bool.
        weight: weight of each transition in the losses; 0 in padding.
    """

    reward: Tensor
    terminated: Tensor
    ends: Tensor
    begins: Tensor
    real: Tensor
    weight: Tensor


def arrivals_from(
    tensordict: TensorDictBase,
    observation_keys: list[str],
    *,
    action: NestedKey = "action",
    is_init: NestedKey = "is_init",
    reward: NestedKey = "reward",
    terminated: NestedKey = "terminated",
    done: NestedKey = "done",
    mask: NestedKey = ("collector", "mask"),
    priority_weight: NestedKey = "priority_weight",
) -> Arrivals:
    """Translate T transitions into T + 1 arrivals (:mod:`wmcomponents.functional.arrival`).

    An episode ends where ``done`` says so, and also where the data were cut: before the start of another episode, and
    at the borders of padding. The observation under ``next`` of its last transition is an arrival then. After a cut
    that no ``is_init`` follows, the state begins anew and the reward is unknown. Where padding is, every number is
    replaced by 0, so that whatever it holds, NaN included, reaches neither a loss nor a gradient.

    Args:
        tensordict: batch ``[B, T]`` in TorchRL's layout; reward and flags are read under ``next``. Left as it is.
        observation_keys: the observation's keys, read at the root and under ``next``.
        action: key of the action.
        is_init: key of the flag of an episode's first step.
        reward: key of the reward, under ``next``.
        terminated: key of the termination flag, under ``next``.
        done: key of the end flag, under ``next``.
        mask: key of the validity mask ``[B, T]`` (or with a trailing 1), used where present.
        priority_weight: key of the weight of each transition ``[B, T]`` (or with a trailing 1), used where present.

    Raises:
        ValueError: if the batch is not ``[B, T]``.
        KeyError: if a key is missing.
    """
    outcome = [under_next(key) for key in (reward, terminated, done)]
    check_sequences(tensordict, [*observation_keys, action, is_init, *map(under_next, observation_keys), *outcome])
    shape = tensordict.batch_size
    first = tensordict.get(is_init).reshape(*shape, 1)
    next_reward, next_terminated, next_done = (tensordict.get(key).reshape(*shape, 1) for key in outcome)
    valid = tensordict.get(mask, None)
    valid = None if valid is None else valid.reshape(shape).bool()
    index = arrival_index(_ends((next_done | next_terminated).squeeze(-1), first.squeeze(-1), valid))
    known = gather_causes(index, torch.ones_like(first, dtype=torch.bool))
    start = gather_arrivals(index, first, torch.zeros_like(first))
    after_end = torch.zeros_like(start)
    after_end[:, 1:, 0] = index.is_next[:, :-1]
    priority = tensordict.get(priority_weight, None)
    priority = torch.ones(shape, device=first.device) if priority is None else priority.reshape(shape).float()
    weight = gather_arrivals(index, priority, priority)
    observation = {
        key: gather_arrivals(index, tensordict.get(key), tensordict.get(("next", key))) for key in observation_keys
    }
    previous_action = gather_causes(index, tensordict.get(action))
    arrival_reward = gather_causes(index, next_reward)
    real = torch.ones_like(start.squeeze(-1))
    if valid is not None:
        real = gather_arrivals(index, valid, valid)
        # The transition that led here is padding only where this is padding too.
        observation = {key: keep_where(value, real) for key, value in observation.items()}
        previous_action, arrival_reward = keep_where(previous_action, real), keep_where(arrival_reward, real)
        weight = torch.where(real, weight, torch.zeros_like(weight))
    return Arrivals(
        observation=observation,
        action=previous_action,
        is_init=start | after_end,
        reward=arrival_reward,
        terminated=gather_causes(index, next_terminated),
        reward_known=known | start,
        weight=weight,
        real=real,
    )


def under_next(key: NestedKey) -> NestedKey:
    """The key below ``"next"``."""
    return ("next", key) if isinstance(key, str) else ("next", *key)


def check_sequences(tensordict: TensorDictBase, needed: Sequence[NestedKey]) -> None:
    """Refuse data that are not sequences ``[B, T]``, or lack a key.

    Args:
        tensordict: the data.
        needed: keys that an objective reads.

    Raises:
        ValueError: if the batch is not ``[B, T]``.
        KeyError: if a key is missing.
    """
    if tensordict.ndim != 2:
        raise ValueError(
            f"sequences have the batch [B, T]; got {list(tensordict.batch_size)}. Sample them with data.make_replay, "
            f"or reshape a flat batch: td.reshape(-1, T)."
        )
    lacking = [key for key in needed if tensordict.get(key, None) is None]
    if lacking:
        raise KeyError(
            f"the sequences lack {lacking}; TorchRL's layout has observations, action and is_init (InitTracker) at the "
            f"root, and observations, reward, terminated and done under 'next'. Rename with set_keys() if they differ."
        )


def _ends(done: Tensor, first: Tensor, valid: Tensor | None) -> Tensor:
    """The last transitions of episodes, whether they ended or were cut, bool ``[B, T]``."""
    ends = done.clone()
    ends[:, :-1] |= first[:, 1:]
    if valid is not None:
        ends[:, :-1] |= valid[:, :-1] != valid[:, 1:]
    return ends
