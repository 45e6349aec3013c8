"""Priorities of transitions for replay, before any was trained on (MuZero and its family)."""

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor

from wmcomponents.functional.n_step import episode_tail, n_step_return
from wmcomponents.models.value_equivalent.objective import ValueEquivalentLoss
from wmcomponents.objectives.arrivals import Transitions

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
    transitions = objective.transitions(tensordict)
    rows, steps = tensordict.batch_size
    # Every end inside a row gives an arrival of its own, which pushes the last ones out: padding makes room for them.
    padded = _padded(tensordict, transitions.real, objective.tensor_keys.mask, _spare_steps(transitions))
    arrivals = objective.arrivals(padded, ["number"])
    model = objective.world_model
    action = model.action_vector(arrivals.action)
    stack, _ = model.stack_sequence(
        model.initial_state((rows,), action.device), action, arrivals.observation, arrivals.is_init
    )
    value = objective.bootstrap_value(arrivals, stack)
    tail = episode_tail(arrivals.is_init.squeeze(-1), arrivals.terminated.squeeze(-1), arrivals.real)
    reward = arrivals.reward.squeeze(-1)
    target = n_step_return(reward, value, tail, objective.td_steps, objective.discount, model.players)
    priority = torch.zeros_like(value)
    priority.scatter_(1, arrivals.observation["number"], (value - target).abs() + LEAST)
    return priority[:, 1 : steps + 1] * transitions.real


def _spare_steps(transitions: Transitions) -> int:
    """Most episode ends inside a row, and one more."""
    ends, begins, real = transitions.ends, transitions.begins, transitions.real
    inside = ends[:, :-1] | begins[:, 1:] | (real[:, 1:] != real[:, :-1])
    return int(inside.sum(1).max()) + 1


def _padded(tensordict: TensorDictBase, real: Tensor, mask_key: NestedKey, spare: int) -> TensorDictBase:
    """Sequences ``[B, T + spare]``; ``number`` counts their transitions from 1, and is 0 for what is under ``next``."""
    rows, steps = tensordict.batch_size
    index = torch.arange(steps + spare, device=real.device).clamp(max=steps - 1)
    padded = tensordict.apply(lambda value: value[:, index], batch_size=[rows, steps + spare])
    assert padded is not None  # where nothing is filtered
    padded.set(mask_key, torch.cat([real, real.new_zeros(rows, spare)], 1))
    number = torch.arange(1, steps + spare + 1, device=real.device).expand(rows, -1)
    return padded.set("number", number).set(("next", "number"), torch.zeros_like(number))
