"""The first section of a report: what is predicted, how far ahead, and how sure that is."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from wmcomponents.codecs.from_spec import codecs_from_spec
from wmcomponents.codecs.observation import ImageCodec
from wmcomponents.evaluation.horizon import HorizonErrors, horizon_errors
from wmcomponents.evaluation.measures import VectorMeasure, measure_of
from wmcomponents.evaluation.open_loop import OpenLoopStep
from wmcomponents.evaluation.truth.evidence import Evidence
from wmcomponents.evaluation.truth.layout import Section, band, rounded, trusted
from wmcomponents.evaluation.truth.outcomes import RewardPairs
from wmcomponents.evaluation.truth.pictures import Backbones, PictureTally
from wmcomponents.world_model import WorldModel

NOTHING = 1e-3
"""An error of so many deviations of the data is none, and no spread is held against it."""

FEWEST_ROWS = 8
"""Sequences that a step is judged by at least; the curves end where fewer are left."""


class Predicted(NamedTuple):
    """What one pass of dreams over the evidence gives.

    Attributes:
        section: the section ``prediction``.
        pictures: the section ``pictures``, or empty where nothing is an image.
        errors: as :func:`horizon_errors` counts them.
        rewards: predicted and real rewards.
        spread: how far the dreams of one prefix differ, as the section ``spread`` of the latent.
    """

    section: Section
    pictures: dict[str, Any]
    errors: HorizonErrors
    rewards: RewardPairs
    spread: dict[str, Any] | None


def predicted(
    model: WorldModel,
    evidence: Evidence,
    *,
    burn_in: int,
    horizon: int,
    samples: int,
    seed: int,
    backbones: Backbones,
    probed: bool,
) -> Predicted:
    """Dream along the evidence once, and count all that can be held against reality.

    Args:
        model: decodes, or is read through a probe.
        evidence: real sequences.
        burn_in: real observations that the filter sees first.
        horizon: steps to imagine.
        samples: dreams of each sequence.
        seed: of the dreams and the bands.
        backbones: networks of the user's.
        probed: whether observations are read off the latent by a probe.
    """
    sequences = evidence.sequences
    device = next(iter(model.parameters())).device
    kinds = codecs_from_spec(model.observation_spec) if "decode" in model.capabilities else {}
    pictures = [
        PictureTally(key, kind, sequences[key][:, burn_in - 1], samples, backbones)
        for key, kind in kinds.items()
        if isinstance(kind, ImageCodec)
    ]
    is_drawn = len(list(model.noise_spec["imagine"].keys())) > 0  # dreams of one start can differ
    rewards, spread = RewardPairs(samples), _Spread(kinds if is_drawn else {}, sequences, samples)

    def watch(step: OpenLoopStep) -> None:
        for tally in pictures:
            tally.add(step)
        rewards.add(step)
        spread.add(step)

    errors = horizon_errors(
        model,
        sequences,
        burn_in=burn_in,
        horizon=horizon,
        samples=samples,
        generator=torch.Generator(device).manual_seed(seed),
        watch=watch,
    )
    shown = max(1, sum(rows >= FEWEST_ROWS for rows in errors.rows))
    counts = evidence.counts(seed)
    quantities = [_quantity(name, errors, counts, shown) for name in errors.row_errors]
    for tally in pictures:
        quantities += [
            _picture_quantity(tally.key, name, rows[..., :shown], counts) for name, rows in tally.rows().items()
        ]
    section: Section = {
        "burn_in": burn_in,
        "horizon": horizon,
        "steps_shown": shown,
        "samples": samples,
        "rows": errors.rows,
        "bands_over": "episodes" if evidence.by_episode else "sequences",
        "observations_are": "probed" if probed else ("decoded" if kinds else "not shown"),
        "quantities": quantities,
    }
    distances = {tally.key: tally.distances() for tally in pictures}
    return Predicted(section, distances, errors, rewards, spread.section(shown))


def _quantity(name: str, errors: HorizonErrors, counts: Tensor, shown: int) -> dict[str, Any]:
    kind, _, key = name.partition("/")
    curve = {
        "observation": errors.observation.get(key),
        "moving": errors.moving.get(key),
        "reward": errors.reward,
        "termination": errors.termination,
    }[kind]
    assert curve is not None
    model, copy, mean = errors.row_errors[name][..., :shown]
    return {
        "name": key if kind == "observation" else (f"{key}, moving places" if kind == "moving" else kind),
        "kind": kind,
        "metric": curve.metric,
        "better": "lower",
        "model": band(model, counts),
        "copy": band(copy, counts),
        "mean": band(mean, counts),
        "constant": bool(torch.nan_to_num(torch.stack([copy, mean])).abs().max() < 1e-9),
        "trusted": {"copy": trusted(model, copy, counts), "mean": trusted(model, mean, counts)},
    }


def _picture_quantity(key: str, metric: str, rows: Tensor, counts: Tensor) -> dict[str, Any]:
    model, copy = rows
    lower = metric == "LPIPS"
    return {
        "name": key,
        "kind": "picture",
        "metric": metric,
        "better": "lower" if lower else "higher",
        "model": band(model, counts),
        "copy": band(copy, counts),
        "mean": None,
        "constant": False,
        "trusted": {"copy": trusted(model, copy, counts, lower_is_better=lower), "mean": None},
    }


class _Spread:
    """How far the dreams of one prefix lie apart, beside how far their mean is off: of vectors alone.

    A model that knows what it does not know has both alike: the spread of its dreams is the error of their mean.
    """

    def __init__(self, kinds: dict[str, Any], sequences: Any, samples: int) -> None:
        measures = {key: measure_of(kind) for key, kind in kinds.items()}
        self._measures = {
            key: one.fit(sequences["next", key]) for key, one in measures.items() if isinstance(one, VectorMeasure)
        }
        self._samples, self._steps = samples, []

    def add(self, step: OpenLoopStep) -> None:
        """One imagined step."""
        if self._samples < 2 or not self._measures or step.observation is None:
            return
        alive, found = step.alive.cpu(), []
        for key, measure in self._measures.items():
            shown = step.observation[key].cpu().double().unflatten(0, (-1, self._samples))
            truth, mean = step.transition["next", key].cpu(), shown.mean(1)
            # Each dream's distance from the mean of the others' and its own, made unbiased; and the mean's from truth.
            each = torch.stack([measure.error(shown[:, i], mean) for i in range(self._samples)]).sum(0)
            found.append(torch.stack([each / (self._samples - 1), measure.error(mean, truth)]))
        both = torch.stack(found).mean(0)[:, alive]
        self._steps.append(both.mean(1) if bool(alive.any()) else torch.full((2,), float("nan")).double())

    def section(self, shown: int) -> dict[str, Any] | None:
        """Spread and error by horizon, as standard deviations in units of the data's."""
        if not self._steps:
            return None
        both = torch.stack(self._steps, 1)[:, :shown].clamp_min(0.0).sqrt()
        dreams, error = (float(one.nanmean()) for one in both)
        ratio = dreams / error if error > NOTHING else math.nan
        return {
            "dreams": [rounded(value) for value in both[0].tolist()],
            "error_of_their_mean": [rounded(value) for value in both[1].tolist()],
            "ratio": rounded(ratio),
        }
