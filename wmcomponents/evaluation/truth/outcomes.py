"""The section on outcomes: whether predicted rewards and ends can be taken at their word."""

import math
from typing import Any

import torch
from torch import Tensor

from wmcomponents.evaluation.horizon import HorizonErrors
from wmcomponents.evaluation.open_loop import OpenLoopStep
from wmcomponents.evaluation.truth.layout import Section, rounded, unmeasured

BINS = 10
"""Groups of equally many steps, from the lowest predicted reward to the highest."""


class RewardPairs:
    """Predicted and real rewards of all imagined steps.

    Args:
        samples: dreams of each sequence; their mean is what is predicted.
    """

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self._predicted: list[Tensor] = []
        self._real: list[Tensor] = []

    def add(self, step: OpenLoopStep) -> None:
        """One imagined step."""
        if step.reward is None:
            return
        alive = step.alive.cpu()
        self._predicted.append(step.reward[:, 0].cpu().double().reshape(-1, self._samples).mean(1)[alive])
        self._real.append(step.transition["next", "reward"][:, 0].cpu().double()[alive])

    def section(self) -> Section:
        """Correlation, bias and explained variance, and the mean real reward by the predicted one."""
        if not self._real:
            return unmeasured("the model predicts no reward.")
        shown, real = torch.cat(self._predicted), torch.cat(self._real)
        if len(real) < 2:
            return unmeasured("no imagined step lies within a real episode.")
        variance, off = float(real.var(correction=0)), shown - real
        varies = variance > 1e-12 and float(shown.var(correction=0)) > 1e-12
        correlation = float(torch.corrcoef(torch.stack([shown, real]))[0, 1]) if varies else math.nan
        order, bins = shown.argsort(), []
        for group in order.chunk(min(BINS, len(order))):
            bins.append({
                "count": len(group),
                "predicted": rounded(float(shown[group].mean())),
                "observed": rounded(float(real[group].mean())),
            })  # fmt: skip
        return {
            "steps": len(real),
            "correlation": rounded(correlation),
            "bias": rounded(float(off.mean())),
            "spread": rounded(variance**0.5),
            "explained_variance": rounded(
                1.0 - float(off.square().mean()) / variance if variance > 1e-12 else math.nan
            ),
            "bins": bins,
        }


def termination_section(errors: HorizonErrors) -> Section:
    """Calibration of P(terminated), and how many real ends were foretold."""
    if not errors.calibration:
        return unmeasured("the model does not predict ends.")
    found = errors.detections["termination"]
    facts: dict[str, Any] = {name: rounded(float(value)) for name, value in vars(found).items()}
    return {
        "steps": sum(bin.count for bin in errors.calibration),
        "calibration_error": rounded(errors.calibration_error),
        "detection": facts,
        "bins": [{name: rounded(value) for name, value in vars(bin).items()} for bin in errors.calibration],
    }
