"""Priorities of transitions for replay, before any was trained on (MuZero and its family)."""

from typing import Any, cast

import torch
from tensordict import TensorDictBase
from torch import Tensor

from wmcomponents.functional.n_step import episode_tail, n_step_return
from wmcomponents.models.value_equivalent.objective import ValueEquivalentLoss
from wmcomponents.objectives.arrivals import check_sequences

LEAST = 1e-6
"""Added, so that no transition is never sampled (EfficientZero)."""


@torch.no_grad()
def initial_priorities(objective: ValueEquivalentLoss, tensordict: TensorDictBase) -> Tensor:
    r"""Priority of each transition as it is stored, ``[B, T]``: how far the value where it began was from its target.

    .. math:: p_t = |\nu_t - z_t| + 10^{-6}

    The value is the search's where there was one, else the target network's; the target is that of training, n rewards
    and a value. A prioritised sampler raises it to the power alpha (0.6 in EfficientZero, 1 in MuZero for Atari) and
    gives each transition's correction back under ``priority_weight``, which the objective reads.

    Args:
        objective: of the model; its keys are read.
        tensordict: sequences ``[B, T]`` in TorchRL's layout, with a search's results where there are any. Padding gets
            the priority 0.

    Raises:
        ValueError: if the batch is not ``[B, T]``.
        KeyError: if a key is missing.

    Reference: Schrittwieser et al., MuZero (2020), appendix G; Ye et al., EfficientZero (2021), appendix A.3.

    """
    keys = objective.tensor_keys
    below = [("next", key) if isinstance(key, str) else ("next", *key) for key in (keys.terminated, keys.done)]
    check_sequences(tensordict, [keys.is_init, *below])
    rows, steps = tensordict.batch_size
    is_over = tensordict.get(below[0]) | tensordict.get(below[1])
    mask = tensordict.get(keys.mask, None)
    real = torch.ones_like(is_over).reshape(rows, steps) if mask is None else mask.reshape(rows, steps).bool()
    # Every end inside a row gives an arrival of its own, which pushes the last ones out: padding makes room for them.
    starts = tensordict.get(keys.is_init).reshape(rows, steps)[:, 1:]
    spare = int((is_over.reshape(rows, steps)[:, :-1] | starts | (real[:, 1:] != real[:, :-1])).sum(1).max()) + 1
    wide = cast(TensorDictBase, torch.cat(cast(Any, [tensordict, *[tensordict[:, -1:]] * spare]), 1))
    nothing = torch.zeros(rows, spare, dtype=torch.bool, device=real.device)
    wide.set(keys.mask, torch.cat([real, nothing], 1))
    number = torch.arange(1, steps + spare + 1, device=real.device).expand(rows, -1)
    wide.set("number", number).set(("next", "number"), torch.zeros_like(number))
    arrivals = objective.arrivals(wide, ["number"])
    model = objective.world_model
    action = model.action_vector(arrivals.action)
    stack, _ = model.stack_sequence(
        model.initial_state((rows,), action.device), action, arrivals.observation, arrivals.is_init
    )
    value = objective.bootstrap_value(arrivals, stack)
    episode = episode_tail(arrivals.is_init.squeeze(-1), arrivals.terminated.squeeze(-1), arrivals.real)
    target = n_step_return(
        arrivals.reward.squeeze(-1), value, *episode, objective.td_steps, objective.discount, model.players
    )
    priority = torch.zeros(rows, steps + spare + 1, dtype=value.dtype, device=value.device)
    priority.scatter_(1, arrivals.observation["number"], (value - target).abs() + LEAST)
    return priority[:, 1 : steps + 1] * real
