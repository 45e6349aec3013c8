"""What a tree search found, as it lies in the data beside the observations that it began from."""

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor

from wmcomponents.functional.n_step import EpisodeTail
from wmcomponents.objectives.arrivals import Arrivals

POLICY, VALUE, MASK = "search_policy", "search_value", "search_mask"


def with_search(
    tensordict: TensorDictBase, policy: NestedKey, value: NestedKey, mask: NestedKey
) -> tuple[TensorDictBase, list[str]]:
    """Sequences ``[B, T]`` whose search results stand where observations stand; the input is left as it is.

    Args:
        tensordict: the sequences.
        policy: key of the policies found, ``[B, T, A]``.
        value: key of the values found, ``[B, T, 1]`` or ``[B, T]``.
        mask: key of which states were searched, bool, shaped as the value; all of them where it is not there.

    Returns:
        The sequences, and the names of what was added, at the root and under ``next``: nothing without a search.
    """
    shape = tensordict.batch_size
    keys = {POLICY: policy, VALUE: value}
    found = {name: tensordict.get(key) for name, key in keys.items() if tensordict.get(key, None) is not None}
    if not found:
        return tensordict, []
    searched = tensordict.get(mask, None)
    searched = torch.ones(shape, device=tensordict.device) if searched is None else searched
    found[MASK] = searched.reshape(*shape, 1).bool()
    tensordict = tensordict.copy()
    for name, result in found.items():
        result = result.reshape(*shape, -1)
        # Nobody searched from an observation that is known under "next" alone.
        tensordict.set(name, result).set(("next", name), torch.zeros_like(result))
    return tensordict, list(found)


def policy_targets(arrivals: Arrivals, action: Tensor, tail: EpisodeTail) -> tuple[Tensor, Tensor]:
    """The policy's target at each arrival: what a search found there, else the action that was taken.

    Args:
        arrivals: ``[B, L]``, with a search's results where there are any.
        action: vectors of the actions that led to each, ``[B, L, A]``.
        tail: what is known of the episode after each, ``[B, L]``.

    Returns:
        The targets ``[B, L, A]``, and whether there is one, bool ``[B, L]``: where the data hold a search's results,
        only where one was made.
    """
    taken = torch.cat([action[:, 1:], torch.zeros_like(action[:, :1])], 1)
    is_acted = tail.steps_remaining > 0
    if POLICY not in arrivals.observation:
        return taken, is_acted
    searched = arrivals.observation[MASK].squeeze(-1)
    found = arrivals.observation[POLICY].to(action.dtype)
    return torch.where(searched.unsqueeze(-1), found, taken), is_acted & searched


def searched_values(arrivals: Arrivals, value: Tensor) -> Tensor:
    """Values ``[B, L]``: those that a search found, where one was made, else the given ones.

    Args:
        arrivals: ``[B, L]``, with a search's results where there are any.
        value: of each arrival, ``[B, L]``.
    """
    if VALUE not in arrivals.observation:
        return value
    found = arrivals.observation[VALUE].squeeze(-1).to(value.dtype)
    return torch.where(arrivals.observation[MASK].squeeze(-1), found, value)
