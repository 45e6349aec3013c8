"""What a search over sequences of actions knows between two iterations."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from torch import Tensor

Score = Callable[[Tensor], Tensor]
"""Values ``[*B, N]`` of candidates ``[*B, N, H, A]``; the larger the better."""

Params = dict[str, Tensor]
"""Parameters of a search distribution; ``mean`` ``[*B, H, A]`` is always among them."""

Stage = Literal["first", "middle", "last"]
"""Where an iteration stands among those of one plan."""


class Plan(NamedTuple):
    """A search under way. Actions are vectors, as ``ActionVector`` makes them.

    Attributes:
        params: of the search distribution.
        elites: the candidates that the last iteration selected, best first, ``[*B, K, H, A]``.
        weights: of the elites, summing to 1, ``[*B, K]``; all 0 while there are none.
        best: the best sequence of all iterations, ``[*B, H, A]``.
        best_value: its value, ``[*B]``.
        is_finite: whether all values so far were numbers, bool ``[*B]``.
    """

    params: Params
    elites: Tensor
    weights: Tensor
    best: Tensor
    best_value: Tensor
    is_finite: Tensor


def better_of(plan: Plan, sequence: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """The best sequence so far and its value, beside an iteration's best ``[*B, H, A]``; at a tie the earlier one."""
    is_better = value > plan.best_value
    best = sequence.where(is_better[..., None, None], plan.best)
    return best, value.where(is_better, plan.best_value)
