"""Whether two judges order the same things alike."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def spearman(first: Sequence[float] | Tensor, second: Sequence[float] | Tensor) -> float:
    """Spearman's rank correlation, in [-1, 1]; equal values share the mean of their ranks.

    Args:
        first: n numbers.
        second: n numbers.

    Returns:
        NaN where one of them does not vary: it orders nothing.

    Raises:
        ValueError: if they are not as many.

    >>> spearman([1.0, 2.0, 3.0], [10.0, 100.0, 1000.0])
    1.0
    """
    one, other = (torch.as_tensor(values, dtype=torch.float64) for values in (first, second))
    if one.shape != other.shape or one.ndim != 1:
        raise ValueError(f"ranks are compared of as many numbers; got {tuple(one.shape)} and {tuple(other.shape)}.")
    if len(one) < 2:
        return math.nan
    one, other = _ranks(one), _ranks(other)
    one, other = one - one.mean(), other - other.mean()
    scale = float(one @ one * (other @ other)) ** 0.5
    return float(one @ other) / scale if scale > 0 else math.nan


def _ranks(values: Tensor) -> Tensor:
    """1 for the smallest; ties share the mean of their places."""
    _, place, counts = torch.unique(values, sorted=True, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts.double() - 1.0) / 2.0)[place]
