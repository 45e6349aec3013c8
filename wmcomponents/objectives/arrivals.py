"""TorchRL-layout sequences as the arrival sequences that the recurrent papers train on."""

from dataclasses import dataclass

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor

from wmcomponents.functional.arrival import arrival_index, gather_arrivals, gather_causes
from wmcomponents.world_model import Observation


@dataclass
class Arrivals:
    """L consecutive observations of each of B rows, each with what led to it.

    Attributes:
        observation: x_t, ``[B, L, ...]`` each.
        action: the action that led to x_t, ``[B, L, ...]``; zero where none did.
        is_init: whether x_t begins its episode, bool ``[B, L, 1]``.
        reward: received on arriving at x_t, ``[B, L, 1]``; zero at the start of an episode.
        terminated: whether x_t ended its episode by termination, bool ``[B, L, 1]``.
        reward_known: where the reward is known: everywhere but at a first x_t that does not begin its episode, bool
            ``[B, L, 1]``.
        weight: of each element in the losses, ``[B, L]``; 0 where the data were padding.
    """

    observation: Observation
    action: Tensor
    is_init: Tensor
    reward: Tensor
    terminated: Tensor
    reward_known: Tensor
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
) -> Arrivals:
    """Translate T transitions into T + 1 arrivals (:mod:`wmcomponents.functional.arrival`).

    Args:
        tensordict: batch ``[B, T]`` in TorchRL's layout; reward and flags are read under ``next``.
        observation_keys: the observation's keys, read at the root and under ``next``.
        action: key of the action.
        is_init: key of the flag of an episode's first step.
        reward: key of the reward, under ``next``.
        terminated: key of the termination flag, under ``next``.
        done: key of the end flag, under ``next``.
        mask: key of the validity mask, used where present.

    Raises:
        ValueError: if the batch is not ``[B, T]``.
        KeyError: if a key is missing.
    """
    if tensordict.ndim != 2:
        raise ValueError(
            f"sequences have the batch [B, T]; got {list(tensordict.batch_size)}. Sample them with data.make_replay, or "
            f"reshape a flat batch: td.reshape(-1, T)."
        )
    needed = [*observation_keys, action, is_init, *(("next", key) for key in (*observation_keys, reward, terminated, done))]
    present = set(tensordict.keys(True, True))
    lacking = [key for key in needed if key not in present]
    if lacking:
        raise KeyError(
            f"the sequences lack {lacking}; TorchRL's layout has observations, action and is_init (InitTracker) at the "
            f"root, and observations, reward, terminated and done under 'next'. Rename with set_keys() if they differ."
        )
    follow = tensordict["next"]
    ended = follow[done].reshape(tensordict.batch_size)
    index = arrival_index(ended)
    first = tensordict[is_init].reshape(*tensordict.batch_size, 1)
    start = gather_arrivals(index, first, torch.zeros_like(first))
    caused = gather_causes(index, torch.ones_like(first, dtype=torch.bool))
    valid = tensordict.get(mask, None)
    weight = torch.ones(start.shape[:-1], device=start.device)
    if valid is not None:
        valid = valid.reshape(*tensordict.batch_size, 1).float()
        weight = gather_arrivals(index, valid, valid).squeeze(-1)
    return Arrivals(
        observation={key: gather_arrivals(index, tensordict[key], follow[key]) for key in observation_keys},
        action=gather_causes(index, tensordict[action]),
        is_init=start,
        # An episode's first observation brings no reward, whatever the transition before it in the buffer says.
        reward=gather_causes(index, follow[reward]).masked_fill(start, 0.0),
        terminated=gather_causes(index, follow[terminated]) & index.is_next.unsqueeze(-1),
        reward_known=caused | start,
        weight=weight,
    )
