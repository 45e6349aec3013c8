"""The imagined value of candidates: the one place where a search meets a world model."""

from collections.abc import Sequence

import torch
from torch import Tensor

from wmcomponents.agents.planners.objectives import Objective
from wmcomponents.agents.planners.policy_candidates import SequencePolicy
from wmcomponents.codecs import ActionVector
from wmcomponents.world_model import Noise, State, WorldModel


def repeated(state: State, lead: int, counts: Sequence[int]) -> State:
    """A state ``[*B, ...]`` for each of so many candidates, ``[*B, *counts, ...]``, in memory of its own.

    Args:
        state: one for each row.
        lead: number of dims B.
        counts: how often.
    """
    ones = (1,) * len(counts)
    return {
        key: value.reshape(*value.shape[:lead], *ones, *value.shape[lead:])
        .expand(*value.shape[:lead], *counts, *value.shape[lead:])
        .contiguous()
        for key, value in state.items()
    }


def at_step(noise: Noise | None, step: int) -> Noise | None:
    """One step of noise ``[H, ...]``."""
    return None if noise is None else {key: value[step] for key, value in noise.items()}


def imagined_value(
    model: WorldModel,
    objective: Objective,
    state: State,
    actions: Tensor,
    noise: Noise | None,
    objective_noise: Noise,
    given: dict[str, Tensor],
    axis: int,
) -> Tensor:
    """What actions are worth in a model: a scan of fixed length, which keeps no state but the last.

    Args:
        model: the world model.
        objective: tells the value.
        state: where each candidate begins, ``[*B, N, ...]``.
        actions: as the model's ``action_spec`` says, ``[*B, N, H, *shape]``.
        noise: z of every step, ``[H, *B, N, ...]``; ``None`` takes modes.
        objective_noise: the objective's.
        given: entries that the objective reads beside the state, ``[*B, ...]``.
        axis: of H in the actions.

    Returns:
        ``[*B, N]``.
    """
    so_far, steps = objective.begin(state), actions.unbind(axis)
    for step, action in enumerate(steps):
        after = model.imagine(state, action, at_step(noise, step))
        so_far, state = objective.step(so_far, after, given, step == len(steps) - 1), after.state
    return objective.end(so_far, state, objective_noise).squeeze(-1)


def followed(
    model: WorldModel,
    policy: SequencePolicy,
    action_vector: ActionVector,
    state: State,
    horizon: int,
    noise: Noise | None,
    policy_noise: Noise,
) -> Tensor:
    """The sequences of actions that a policy takes in a model, ``[*B, N, H, A]``.

    Args:
        model: the world model.
        policy: acts.
        action_vector: the vectors of the model's actions.
        state: where each begins, ``[*B, N, ...]``.
        horizon: H.
        noise: z of every step, ``[H, *B, N, ...]``; ``None`` takes modes.
        policy_noise: the policy's of every step, ``[H, *B, N, ...]``.
    """
    vectors = []
    for step in range(horizon):
        vector = policy.act(state, {key: value[step] for key, value in policy_noise.items()})
        vectors.append(vector)
        if step + 1 < horizon:
            state = model.imagine(state, action_vector.inverse(vector), at_step(noise, step)).state
    return torch.stack(vectors, -2)
