"""Errors of dreams, added up step by step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from wmcomponents.evaluation.measures import Measure
from wmcomponents.evaluation.open_loop import OpenLoopStep

BINS = 10
"""Bins of the calibration of predicted termination."""


@dataclass(frozen=True)
class Curve:
    """An error by horizon, beside what no model is needed for. Entry i belongs to k = i + 1; NaN where no row is left.

    Attributes:
        metric: what is measured.
        model: the world model's error.
        copy: the error of repeating the last thing observed (for termination: of never ending).
        mean: the error of always predicting the data's mean (most common value, base rate).
    """

    metric: str
    model: list[float]
    copy: list[float]
    mean: list[float]

    def to_json(self) -> dict[str, Any]:
        """JSON-able; NaN becomes null."""
        return {
            "metric": self.metric,
            "model": finite_json(self.model),
            "copy": finite_json(self.copy),
            "mean": finite_json(self.mean),
        }


@dataclass(frozen=True)
class CalibrationBin:
    """Steps whose predicted probability of ending lies in one tenth of [0, 1].

    Attributes:
        count: how many steps.
        predicted: their mean predicted probability.
        observed: the share of them that really ended the episode.
    """

    count: int
    predicted: float
    observed: float


@dataclass(frozen=True)
class Detection:
    """How well an event is foretold, over all imagined steps.

    Attributes:
        precision: share of the foretold events that were real; NaN if none was foretold.
        recall: share of the real events that were foretold; NaN if there was none.
        foretold: how many the dreams showed, in the average over samples.
        real: how many there were.
    """

    precision: float
    recall: float
    foretold: float
    real: int


class Tally:
    """Means over the rows that are left, by horizon."""

    def __init__(self) -> None:
        self._means: list[list[float]] = []
        self._rows: list[Tensor] = []  # (3, B)

    @property
    def is_used(self) -> bool:
        """Whether anything was added."""
        return bool(self._means)

    def add(self, alive: Tensor, *errors: Tensor) -> None:
        """One step: errors of the model, of copying, of the mean, ``[B]`` each; of the rows that are ``alive``."""
        self._means.append([float(error.double()[alive].mean()) if bool(alive.any()) else math.nan for error in errors])
        self._rows.append(torch.stack([torch.where(alive, error.double(), math.nan) for error in errors]))

    def curve(self, metric: str) -> Curve:
        """What was added, by horizon."""
        model, copy, mean = (list(values) for values in zip(*self._means, strict=True))
        return Curve(metric, model, copy, mean)

    def rows(self) -> Tensor:
        """The errors of each sequence, ``[3, B, K]``: of the model, of copying, of the mean; NaN once it has ended."""
        return torch.stack(self._rows, -1)


class ObservationTally:
    """Errors of one observation, and of those places of it alone that moved.

    Args:
        measure: of the observation.
        last: the last one that the filter saw, ``[B, ...]``.
        samples: dreams of each sequence that are held against reality.
    """

    def __init__(self, measure: Measure, last: Tensor, samples: int) -> None:
        self._measure, self._last, self._samples = measure, last.cpu(), samples
        self._all, self._moved = Tally(), Tally()

    def add(self, alive: Tensor, truth: Tensor, shown: Tensor) -> None:
        """One step.

        Args:
            alive: rows that are left, bool ``[B]``.
            truth: what followed, ``[B, ...]``.
            shown: what the dreams showed, ``[B * samples, ...]``.
        """
        measure, last = self._measure, self._last
        typical, repeated = measure.typical.expand_as(truth), truth.repeat_interleave(self._samples, 0)
        self._all.add(
            alive,
            measure.error(shown, repeated).reshape(-1, self._samples).mean(1),
            measure.error(last, truth),
            measure.error(typical, truth),
        )
        moved = measure.moving_error(shown, repeated, last.repeat_interleave(self._samples, 0))
        if moved is not None:
            copied, averaged = (measure.moving_error(one, truth, last) for one in (last, typical))
            assert copied is not None and averaged is not None
            moved = moved.reshape(-1, self._samples).mean(1)
            self._moved.add(alive & copied.isfinite(), moved, copied, averaged)

    def curve(self) -> Curve:
        """Errors of all of it."""
        return self._all.curve(self._measure.metric)

    def moving(self) -> Curve | None:
        """Errors of what moved; ``None`` where nothing is told apart."""
        return self._moved.curve(self._measure.metric) if self._moved.is_used else None

    def rows(self) -> Tensor:
        """Errors of all of it, sequence by sequence: see :meth:`Tally.rows`."""
        return self._all.rows()

    def moving_rows(self) -> Tensor:
        """Errors of what moved, sequence by sequence."""
        return self._moved.rows()


class RewardTally(Tally):
    """The last reward seen is the one received with the last observation of the prefix, where there is one."""

    def __init__(self, sequences: TensorDictBase, burn_in: int) -> None:
        super().__init__()
        rewards = sequences["next", "reward"].cpu().double()
        self._mean = rewards.mean()
        self._last = self._mean.expand(rewards.shape[0])
        if burn_in > 1:
            fresh = sequences["is_init"][:, burn_in - 1, 0].cpu()
            self._last = torch.where(fresh, self._mean, rewards[:, burn_in - 2, 0])
        sizes = rewards.abs()[rewards != 0]
        self._least = float(sizes.min()) / 2 if len(sizes) else math.inf
        self._events: list[tuple[Tensor, Tensor]] = []

    def add(self, step: OpenLoopStep, alive: Tensor, samples: int) -> None:  # type: ignore[override]
        """One step of dreams, ``samples`` a sequence; ``alive`` is bool ``[B]``."""
        assert step.reward is not None
        truth = step.transition["next", "reward"][:, 0].cpu().double()
        shown = step.reward[:, 0].cpu().double().reshape(-1, samples)
        super().add(
            alive,
            (shown - truth[:, None]).abs().mean(1),
            (self._last - truth).abs(),
            (self._mean - truth).abs(),
        )
        self._events.append((truth[alive].abs() >= self._least, shown[alive].abs() >= self._least))

    def detection(self) -> Detection:
        """Of rewards that are not zero."""
        return _detection(self._events)


class EndTally:
    """Predicted and real ends of the rows that are left."""

    def __init__(self) -> None:
        self._ends: list[Tensor] = []  # (rows left,)
        self._chances: list[Tensor] = []  # (rows left, samples)
        self._alive: list[Tensor] = []  # (B,)

    def add(self, step: OpenLoopStep, alive: Tensor, samples: int) -> None:
        """One step of dreams, ``samples`` a sequence; ``alive`` is bool ``[B]``."""
        assert step.cont is not None
        self._ends.append(step.transition["next", "terminated"][:, 0].cpu()[alive].double())
        self._chances.append((1.0 - step.cont[:, 0].cpu().double()).reshape(-1, samples)[alive])
        self._alive.append(alive)

    def _rate(self) -> Tensor:
        """The share of all steps that end."""
        return torch.cat(self._ends).mean() if any(len(ends) for ends in self._ends) else torch.tensor(math.nan)

    def rows(self) -> Tensor:
        """Brier scores of each sequence: see :meth:`Tally.rows`."""
        rate, found = self._rate(), torch.full((3, len(self._alive[0]), len(self._alive)), math.nan).double()
        for k, (alive, ends, chances) in enumerate(zip(self._alive, self._ends, self._chances, strict=True)):
            found[0, alive, k] = (chances - ends[:, None]).square().mean(1)
            found[1, alive, k], found[2, alive, k] = ends, (rate - ends).square()
        return found

    def curve(self) -> Curve:
        """Brier scores by horizon."""
        rate = self._rate()
        model, copy, mean = [], [], []
        for ends, chances in zip(self._ends, self._chances, strict=True):
            model.append(float((chances - ends[:, None]).square().mean()))
            copy.append(float(ends.mean()))
            mean.append(float((rate - ends).square().mean()))
        return Curve("Brier score", model, copy, mean)

    def detection(self) -> Detection:
        """Of ends that are more likely than not."""
        return _detection([
            (ends > 0.5, chances > 0.5) for ends, chances in zip(self._ends, self._chances, strict=True)
        ])  # fmt: skip

    def calibration(self) -> list[CalibrationBin]:
        """How often ends came true, by the chance they were given."""
        chances = torch.cat([chances.reshape(-1) for chances in self._chances])
        ends = torch.cat([
            ends[:, None].expand_as(chances).reshape(-1)
            for ends, chances in zip(self._ends, self._chances, strict=True)
        ])  # fmt: skip
        place = (chances * BINS).long().clamp(0, BINS - 1)
        bins = []
        for number in range(BINS):
            inside = place == number
            if bool(inside.any()):
                bins.append(
                    CalibrationBin(int(inside.sum()), float(chances[inside].mean()), float(ends[inside].mean()))
                )
        return bins


def _detection(events: list[tuple[Tensor, Tensor]]) -> Detection:
    """From pairs of what happened, bool ``[rows]``, and what was foretold, bool ``[rows, samples]``."""
    both = sum(float((real[:, None] & foretold).double().mean(1).sum()) for real, foretold in events)
    foretold = sum(float(shown.double().mean(1).sum()) for _, shown in events)
    real = sum(int(truth.sum()) for truth, _ in events)
    return Detection(both / foretold if foretold else math.nan, both / real if real else math.nan, foretold, real)


def finite_json(values: Sequence[float]) -> list[float | None]:
    """Numbers to six digits; NaN and infinity as null."""
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values]
