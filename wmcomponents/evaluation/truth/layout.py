"""How numbers stand in a report's JSON: the same for every family."""

import math
from typing import Any

import torch
from torch import Tensor

from wmcomponents.evaluation.metrics.bootstrap import mean_bands, resampled_means
from wmcomponents.evaluation.tallies import finite_json

Section = dict[str, Any]


def unmeasured(why: str) -> Section:
    """A section that could not be measured, and why."""
    return {"not_measured": why}


def measured(section: Section) -> bool:
    """Whether a section holds numbers."""
    return "not_measured" not in section


def rounded(value: float | None) -> float | None:
    """A number to six digits; ``None`` in place of NaN and infinity."""
    return None if value is None else finite_json([value])[0]


def band(values: Tensor, counts: Tensor) -> dict[str, list[float | None]]:
    """Mean and 95 % band by horizon of values ``[B, K]``, as JSON."""
    found = mean_bands(values, counts)
    return {name: finite_json(getattr(found, name)) for name in ("mean", "low", "high")}


def trusted(model: Tensor, baseline: Tensor, counts: Tensor, *, lower_is_better: bool = True) -> dict[str, int]:
    """The longest stretch of steps in which a model is better than a baseline: its first and last step.

    It may begin late: where little changes in a step, copying is hard to beat in the first.

    Args:
        model: errors ``[B, K]``, NaN where there is none.
        baseline: of the same sequences.
        counts: of the resamples.
        lower_is_better: errors, not similarities.

    Returns:
        ``from`` and ``steps``, the first and last step, 0 where it is never better; and where 95 % of the resamples
        have the last, ``low`` to ``high``.
    """
    sign = 1.0 if lower_is_better else -1.0
    gain = sign * (baseline - model)
    begins, ends = _longest(resampled_means(gain, counts.new_ones(1, len(gain))) > 0)
    ordered = _longest(resampled_means(gain, counts) > 0)[1].sort().values
    low, high = (int(ordered[int(share * (len(ordered) - 1))]) for share in (0.025, 0.975))
    return {"from": int(begins[0]), "steps": int(ends[0]), "low": low, "high": high}


def _longest(better: Tensor) -> tuple[Tensor, Tensor]:
    """First and last step, from 1, of the longest stretch that is true in each row ``[R, K]``; 0 where none is."""
    run, runs = torch.zeros(len(better), dtype=torch.int64), []
    for column in better.unbind(1):
        run = (run + 1) * column
        runs.append(run)
    length, place = torch.stack(runs, 1).max(1)
    last = (place + 1) * (length > 0)
    return last - length + (length > 0), last


def share(part: float, whole: float) -> float:
    """A ratio; NaN where there is no whole."""
    return part / whole if whole else math.nan
