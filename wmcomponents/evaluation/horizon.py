"""How far a world model can be trusted: prediction error by the number of steps since it last saw reality."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import torch
from tensordict import TensorDictBase
from torch import Tensor

from wmcomponents.codecs.from_spec import codecs_from_spec
from wmcomponents.evaluation.measures import IMAGE_METRIC, Measure, measure_of
from wmcomponents.evaluation.open_loop import OpenLoopStep, open_loop
from wmcomponents.world_model import CapabilityError, WorldModel

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
        return {"metric": self.metric, "model": _json(self.model), "copy": _json(self.copy), "mean": _json(self.mean)}


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


@dataclass(frozen=True)
class HorizonErrors:
    """Prediction errors by horizon; see :func:`horizon_errors`.

    Attributes:
        burn_in: real observations seen before the dream.
        horizon: number of imagined steps.
        samples: dreams from each prefix.
        rows: real sequences left at each horizon: those whose episode had not ended before.
        observation: error of each observation by key; empty if the model has no decoder.
        moving: of images and boards by key, the error of those places alone that differ from the last observation seen;
            copying is wrong in all of them.
        reward: mean absolute error, in env units; ``None`` if the model predicts no reward.
        termination: Brier score of P(terminated) in each step; ``None`` if the model does not predict it.
        calibration: of P(terminated), over all steps; empty bins left out.
        detections: of the events ``"reward"`` (not zero: at least half the smallest real one) and ``"termination"``
            (more likely than not).
    """

    burn_in: int
    horizon: int
    samples: int
    rows: list[int]
    observation: dict[str, Curve]
    moving: dict[str, Curve]
    reward: Curve | None
    termination: Curve | None
    calibration: list[CalibrationBin]
    detections: dict[str, Detection]

    @property
    def calibration_error(self) -> float | None:
        """Expected calibration error of P(terminated): |predicted - observed| of the bins, weighted by their counts."""
        total = sum(bin.count for bin in self.calibration)
        if not total:
            return None
        return sum(bin.count * abs(bin.predicted - bin.observed) for bin in self.calibration) / total

    def psnr(self, key: str) -> list[float]:
        """Peak signal-to-noise ratio of the model's images by horizon, in dB.

        Raises:
            KeyError: if the observation is no image.
        """
        curve = self.observation[key]
        if curve.metric != IMAGE_METRIC:
            raise KeyError(f"the peak signal-to-noise ratio is of images; {key!r} is measured by {curve.metric}.")
        return [-10.0 * math.log10(max(value, 1e-10)) if value == value else math.nan for value in curve.model]

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON-able values; NaN becomes null."""
        images = [key for key, curve in self.observation.items() if curve.metric == IMAGE_METRIC]
        return {
            "burn_in": self.burn_in,
            "horizon": self.horizon,
            "samples": self.samples,
            "rows": self.rows,
            "observation": {key: curve.to_json() for key, curve in self.observation.items()},
            "moving": {key: curve.to_json() for key, curve in self.moving.items()},
            "psnr": {key: _json(self.psnr(key)) for key in images},
            "reward": None if self.reward is None else self.reward.to_json(),
            "termination": None if self.termination is None else self.termination.to_json(),
            "calibration": [vars(bin) for bin in self.calibration],
            "calibration_error": self.calibration_error,
            "detections": {
                name: {key: _json([value])[0] for key, value in vars(found).items()}
                for name, found in self.detections.items()
            },
        }


def horizon_errors(
    model: WorldModel,
    sequences: TensorDictBase,
    *,
    burn_in: int = 8,
    horizon: int = 32,
    samples: int = 1,
    generator: torch.Generator | None = None,
    of: Literal["dream", "forecast"] = "dream",
) -> HorizonErrors:
    """k-step prediction error on real sequences that the model was not trained on.

    The filter sees ``burn_in`` observations; from there the model imagines with the real actions, and each imagined
    step is held against what really followed, up to the end of the real episode.

    * vectors: squared error divided by the variance of the data, averaged over the components that vary: 1 is as bad as
      predicting the mean;
    * images: mean squared error of values in [0, 1];
    * planes: share of cells shown wrong in any plane; categories and bits: share that is wrong;
    * reward: mean absolute error in env units; termination: Brier score.

    With several samples the errors of the single dreams are averaged, which measures a dream; or the dreams are, and
    the error is that of their mean (for symbols: of what most dreams show), which measures the model as a forecaster.

    Args:
        model: any world model; what it cannot do is left out.
        sequences: ``[B, T]`` in TorchRL's layout, such as ``replay.sample()``; T at least ``burn_in - 1 + horizon``.
        burn_in: real observations that the filter sees, at least 1.
        horizon: imagined steps.
        samples: dreams from each sequence.
        generator: of the noise; ``None`` takes the mode of every step.
        of: what is held against reality, each ``"dream"`` or the ``"forecast"`` that they make together.

    Raises:
        CapabilityError: if the model neither decodes nor predicts reward or continuation.
        ValueError, KeyError: if the sequences do not fit; see :func:`open_loop`.
    """
    can = model.capabilities
    if not can & {"decode", "reward", "continue"}:
        raise CapabilityError(
            f"{type(model).__name__} neither decodes nor predicts reward or continuation: there is nothing to measure."
        )
    steps = open_loop(model, sequences, burn_in=burn_in, horizon=horizon, samples=samples, generator=generator)
    first = next(steps)  # checks the sequences before they are read
    kinds = codecs_from_spec(model.observation_spec) if "decode" in can else {}
    measures = {key: measure_of(kind).fit(sequences["next", key]) for key, kind in kinds.items()}
    last_seen = {key: sequences[key][:, burn_in - 1] for key in kinds}
    reward = _RewardTally(sequences, burn_in) if "reward" in can else None
    ends = _EndTally() if "continue" in can else None
    tallies = {key: _Tally() for key in kinds}
    moves: dict[str, _Tally] = {}
    rows: list[int] = []
    kept = samples if of == "dream" else 1
    for step in chain([first], steps):
        if of == "forecast":
            step = _forecast(step, samples, measures)
        alive = step.alive.cpu()
        rows.append(int(alive.sum()))
        for key, measure in measures.items():
            assert step.observation is not None
            truth, shown = step.transition["next", key].cpu(), step.observation[key].cpu()
            last, typical = last_seen[key].cpu(), measure.typical.expand_as(truth)
            repeated = truth.repeat_interleave(kept, 0)
            tallies[key].add(
                alive,
                measure.error(shown, repeated).reshape(-1, kept).mean(1),
                measure.error(last, truth),
                measure.error(typical, truth),
            )
            moved = measure.moving_error(shown, repeated, last.repeat_interleave(kept, 0))
            if moved is not None:
                copied, averaged = (measure.moving_error(one, truth, last) for one in (last, typical))
                assert copied is not None and averaged is not None
                moves.setdefault(key, _Tally()).add(
                    alive & copied.isfinite(), moved.reshape(-1, kept).mean(1), copied, averaged
                )
        if reward is not None:
            reward.add(step, alive, kept)
        if ends is not None:
            ends.add(step, alive, kept)
    return HorizonErrors(
        burn_in=burn_in,
        horizon=horizon,
        samples=samples,
        rows=rows,
        observation={key: tallies[key].curve(measure.metric) for key, measure in measures.items()},
        moving={key: tally.curve(measures[key].metric) for key, tally in moves.items()},
        reward=None if reward is None else reward.curve("mean absolute error"),
        termination=None if ends is None else ends.curve(),
        calibration=[] if ends is None else ends.calibration(),
        detections={
            name: tally.detection() for name, tally in (("reward", reward), ("termination", ends)) if tally is not None
        },
    )


def _forecast(step: OpenLoopStep, samples: int, measures: dict[str, Measure]) -> OpenLoopStep:
    """The dreams of each sequence as one."""

    def mean(value: Tensor) -> Tensor:
        return value.unflatten(0, (-1, samples)).double().mean(1)

    observation = step.observation
    if observation is not None:
        observation = {
            key: measures[key].average(value.unflatten(0, (-1, samples)).cpu()) for key, value in observation.items()
        }
    reward, cont = (None if value is None else mean(value) for value in (step.reward, step.cont))
    return step._replace(observation=observation, reward=reward, cont=cont)


class _Tally:
    """Means over the rows that are left, by horizon."""

    def __init__(self) -> None:
        self._means: list[list[float]] = []

    def add(self, alive: Tensor, *errors: Tensor) -> None:
        self._means.append([float(error.double()[alive].mean()) if bool(alive.any()) else math.nan for error in errors])

    def curve(self, metric: str) -> Curve:
        model, copy, mean = (list(values) for values in zip(*self._means, strict=True))
        return Curve(metric, model, copy, mean)


class _RewardTally(_Tally):
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
        return _detection(self._events)


class _EndTally:
    """Predicted and real ends of the rows that are left."""

    def __init__(self) -> None:
        self._ends: list[Tensor] = []  # (rows left,)
        self._chances: list[Tensor] = []  # (rows left, samples)

    def add(self, step: OpenLoopStep, alive: Tensor, samples: int) -> None:
        assert step.cont is not None
        self._ends.append(step.transition["next", "terminated"][:, 0].cpu()[alive].double())
        self._chances.append((1.0 - step.cont[:, 0].cpu().double()).reshape(-1, samples)[alive])

    def curve(self) -> Curve:
        rate = torch.cat(self._ends).mean() if any(len(ends) for ends in self._ends) else torch.tensor(math.nan)
        model, copy, mean = [], [], []
        for ends, chances in zip(self._ends, self._chances, strict=True):
            model.append(float((chances - ends[:, None]).square().mean()))
            copy.append(float(ends.mean()))
            mean.append(float((rate - ends).square().mean()))
        return Curve("Brier score", model, copy, mean)

    def detection(self) -> Detection:
        return _detection([
            (ends > 0.5, chances > 0.5) for ends, chances in zip(self._ends, self._chances, strict=True)
        ])  # fmt: skip

    def calibration(self) -> list[CalibrationBin]:
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


def _json(values: Sequence[float]) -> list[float | None]:
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values]
