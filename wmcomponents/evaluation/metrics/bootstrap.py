"""How sure a mean is: percentiles over resamples, episode by episode."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

RESAMPLES, LOW, HIGH = 400, 0.025, 0.975
"""Resamples, and the percentiles that bound 95 % of them."""


class Band(NamedTuple):
    """A mean and where 95 % of its resamples lie.

    Attributes:
        mean: of all rows.
        low: 2.5 % of the resampled means lie below.
        high: 2.5 % lie above.
    """

    mean: list[float]
    low: list[float]
    high: list[float]


def bootstrap_counts(clusters: Tensor, *, resamples: int = RESAMPLES, seed: int = 0) -> Tensor:
    """How often each row counts in each resample, ``[resamples, B]``: whole clusters are drawn with replacement.

    Rows of one episode resemble each other; drawn one by one they would look like more evidence than they are.

    Args:
        clusters: the cluster of each row, int ``[B]``.
        resamples: how many.
        seed: of the draws.
    """
    _, place = torch.unique(clusters, return_inverse=True)
    number = int(place.max()) + 1 if len(place) else 0
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(max(number, 1), (resamples, number), generator=generator)
    counts = torch.zeros(resamples, number, dtype=torch.float64).scatter_add_(
        1, drawn, torch.ones(drawn.shape, dtype=torch.float64)
    )
    return counts[:, place]


def resampled_means(values: Tensor, counts: Tensor) -> Tensor:
    """Means over rows in each resample, ``[resamples, K]`` of values ``[B, K]``; NaN rows are left out, K by K."""
    there = values.isfinite()
    weights = counts @ there.double()
    return torch.where(weights > 0, counts @ torch.where(there, values, 0.0).double() / weights, math.nan)


def mean_bands(values: Tensor, counts: Tensor) -> Band:
    """The mean of values ``[B, K]`` over the rows that are finite, and its 95 % band, column by column.

    Args:
        values: one row a sequence; NaN where there is nothing to count.
        counts: of :func:`bootstrap_counts`.
    """
    means = resampled_means(values, counts)
    whole = resampled_means(values, torch.ones(1, len(values), dtype=torch.float64))[0]
    bounds = torch.nanquantile(means, torch.tensor([LOW, HIGH], dtype=torch.float64), dim=0)
    return Band(whole.tolist(), bounds[0].tolist(), bounds[1].tolist())
