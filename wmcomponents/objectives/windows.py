"""Sequences cut into the windows that a latent model is rolled out along."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from wmcomponents.functional.broadcast import keep_where
from wmcomponents.objectives.arrivals import Transitions, under_next
from wmcomponents.objectives.model_loss import ModelLoss
from wmcomponents.world_model import Observation


@dataclass
class Windows:
    """N windows of H transitions.

    Attributes:
        observation: before each transition, ``[N, H, ...]`` each; read where ``begins``.
        begins: whether the latent begins anew there, from the observation: where a window or an episode begins, bool
            ``[N, H]``.
        following: the observation after each transition, ``[N, H, ...]`` each.
        action: the action taken in each transition, ``[N, H, ...]``.
        reward: received for it, ``[N, H, 1]``.
        terminated: whether it ended its episode by termination, bool ``[N, H, 1]``.
        weight: weight of each transition, ``[N, H]``; 0 where data were padding.
    """

    observation: Observation
    begins: Tensor
    following: Observation
    action: Tensor
    reward: Tensor
    terminated: Tensor
    weight: Tensor

    @property
    def frames(self) -> Observation:
        """What was observed along each window, ``[N, H + 1, ...]`` each: the first observation and all that follow."""
        first = {key: value[:, :1] for key, value in self.observation.items()}
        return {key: torch.cat([first[key], value], 1) for key, value in self.following.items()}

    @property
    def unbroken(self) -> Tensor:
        """Which windows lie in one episode, bool ``[N]``."""
        return ~self.begins[:, 1:].any(1)

    @property
    def whole(self) -> Tensor:
        """Which windows lie in one episode and hold no padding, bool ``[N]``."""
        return self.unbroken & (self.weight > 0).all(1)


def cut_windows(
    transitions: Transitions, observation: Observation, following: Observation, action: Tensor, horizon: int
) -> Windows:
    """Sequences ``[B, T]`` as windows side by side; what is left over at the end is not used.

    Args:
        transitions: rewards, ends and weights, ``[B, T]``.
        observation: before each transition, ``[B, T, ...]`` each.
        following: after each transition, ``[B, T, ...]`` each.
        action: taken in each transition, ``[B, T, ...]``.
        horizon: H; a shorter sequence is one window.
    """
    rows, time = transitions.reward.shape
    horizon = min(horizon, time)
    count = time // horizon

    def cut(value: Tensor) -> Tensor:
        return value[:, : count * horizon].reshape(rows * count, horizon, *value.shape[2:])

    begins = cut(transitions.begins).clone()
    begins[:, 0] = True
    begins[:, 1:] |= cut(transitions.ends)[:, :-1] | ~cut(transitions.real)[:, :-1]
    return Windows(
        observation={key: cut(value) for key, value in observation.items()},
        begins=begins,
        following={key: cut(value) for key, value in following.items()},
        action=cut(action),
        reward=cut(transitions.reward).unsqueeze(-1),
        terminated=cut(transitions.terminated).unsqueeze(-1),
        weight=cut(transitions.weight),
    )


def windows_of(loss: ModelLoss[Any], tensordict: TensorDictBase, horizon: int, beside: Sequence[str] = ()) -> Windows:
    """Sequences ``[B, T]`` as windows side by side, read under the keys of an objective.

    Args:
        loss: the objective.
        tensordict: the sequences; where they are padded, whatever stands there becomes 0.
        horizon: H.
        beside: keys that are read like observations where they are there, such as features that were kept.

    Raises:
        ValueError: if the batch is not ``[B, T]``.
        KeyError: if a key is missing.
    """
    names = [*loss.observation_keys, *(key for key in beside if tensordict.get(key, None) is not None)]
    transitions = loss.transitions(tensordict, [*names, *map(under_next, names)])
    observation = {key: tensordict.get(key) for key in names}
    following = {key: tensordict.get(under_next(key)) for key in names}
    action = tensordict.get(loss.tensor_keys.action)
    if tensordict.get(loss.tensor_keys.mask, None) is not None:  # padding may hold anything, NaN included
        real = transitions.real
        observation = {key: keep_where(value, real) for key, value in observation.items()}
        following = {key: keep_where(value, real) for key, value in following.items()}
        action = keep_where(action, real)
    return cut_windows(transitions, observation, following, action, horizon)
