"""The spread of a batch, without its outliers."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def percentile_range(
    values: Float[Tensor, " n"], counts: Bool[Tensor, " n"] | None = None, low: float = 0.05, high: float = 0.95
) -> Float[Tensor, ""]:
    """Distance between two quantiles (linear interpolation) of the values that count; NaN if none does.

    Args:
        values: any numbers.
        counts: which of them count; all if not given. The shape stays fixed, so nothing waits for a device.
        low: lower quantile.
        high: upper quantile.
    """
    values = values.float() if counts is None else torch.where(counts, values.float(), torch.nan)
    ends = torch.nanquantile(values, torch.tensor([low, high], device=values.device))
    return ends[1] - ends[0]
