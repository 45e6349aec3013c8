"""How far a world model can be trusted: prediction error by the number of steps since it last saw reality."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal, cast

import torch
from tensordict import TensorDictBase
from torch import Tensor

from wmcomponents.codecs.from_spec import codecs_from_spec
from wmcomponents.evaluation.measures import IMAGE_METRIC, Measure, measure_of
from wmcomponents.evaluation.open_loop import OpenLoopStep, open_loop
from wmcomponents.evaluation.tallies import (
    CalibrationBin,
    Curve,
    Detection,
    EndTally,
    ObservationTally,
    RewardTally,
    finite_json,
)
from wmcomponents.world_model import CapabilityError, Observation, WorldModel


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
        row_errors: what the curves are means of, sequence by sequence: ``[3, B, K]`` of the model, of copying and of
            the mean, NaN once a sequence has ended; under ``observation/KEY``, ``moving/KEY``, ``reward`` and
            ``termination``.
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
    row_errors: dict[str, Tensor] = field(default_factory=dict, repr=False, compare=False)

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
            "psnr": {key: finite_json(self.psnr(key)) for key in images},
            "reward": None if self.reward is None else self.reward.to_json(),
            "termination": None if self.termination is None else self.termination.to_json(),
            "calibration": [vars(bin) for bin in self.calibration],
            "calibration_error": self.calibration_error,
            "detections": {
                name: {key: finite_json([value])[0] for key, value in vars(found).items()}
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
    watch: Callable[[OpenLoopStep], None] | None = None,
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
        watch: is shown every step too, so that other measures need no dreams of their own.

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
    tallies = _Tallies(model, sequences, burn_in, kept=samples if of == "dream" else 1)
    for step in chain([first], steps):
        if watch is not None:
            watch(step)
        tallies.add(_forecast(step, samples, tallies.measures) if of == "forecast" else step)
    return tallies.errors(burn_in=burn_in, horizon=horizon, samples=samples)


class _Tallies:
    """What the errors of all that a model tells are counted in, step by step.

    Args:
        model: the world model.
        sequences: the real sequences, ``[B, T]``.
        burn_in: real steps before the first imagined one.
        kept: dreams of each sequence that are compared.
    """

    def __init__(self, model: WorldModel, sequences: TensorDictBase, burn_in: int, *, kept: int) -> None:
        can = model.capabilities
        kinds = codecs_from_spec(model.observation_spec) if "decode" in can else {}
        self.measures = {key: measure_of(kind).fit(sequences["next", key]) for key, kind in kinds.items()}
        self._shown = {
            key: ObservationTally(each, sequences[key][:, burn_in - 1], kept) for key, each in self.measures.items()
        }
        self._reward = RewardTally(sequences, burn_in) if "reward" in can else None
        self._ends = EndTally() if "continue" in can else None
        self._rows: list[int] = []
        self._kept = kept

    def add(self, step: OpenLoopStep) -> None:
        """Count one imagined step of all rows."""
        alive = step.alive.cpu()
        self._rows.append(int(alive.sum()))
        for key, tally in self._shown.items():
            tally.add(alive, step.transition["next", key].cpu(), cast(Observation, step.observation)[key].cpu())
        for tally in (self._reward, self._ends):
            if tally is not None:
                tally.add(step, alive, self._kept)

    def errors(self, **span: int) -> HorizonErrors:
        """What was counted.

        Args:
            **span: burn-in, horizon and samples, as they are told.
        """
        moving = {key: tally.moving() for key, tally in self._shown.items()}
        events = {"reward": self._reward, "termination": self._ends}
        return HorizonErrors(
            **span,
            rows=self._rows,
            observation={key: tally.curve() for key, tally in self._shown.items()},
            moving={key: curve for key, curve in moving.items() if curve is not None},
            reward=None if self._reward is None else self._reward.curve("mean absolute error"),
            termination=None if self._ends is None else self._ends.curve(),
            calibration=[] if self._ends is None else self._ends.calibration(),
            detections={name: tally.detection() for name, tally in events.items() if tally is not None},
            row_errors={
                **{f"observation/{key}": tally.rows() for key, tally in self._shown.items()},
                **{f"moving/{key}": self._shown[key].moving_rows() for key, curve in moving.items() if curve},
                **{name: tally.rows() for name, tally in events.items() if tally is not None},
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
