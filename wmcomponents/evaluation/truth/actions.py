"""The section on actions: does a dream go where the actions lead?"""

from typing import cast

import torch
from tensordict import TensorDictBase
from torch import Tensor

from wmcomponents.codecs.from_spec import codecs_from_spec
from wmcomponents.codecs.observation import ImageCodec
from wmcomponents.evaluation.measures import measure_of
from wmcomponents.evaluation.metrics import psnr
from wmcomponents.evaluation.open_loop import open_loop
from wmcomponents.evaluation.truth.evidence import Evidence
from wmcomponents.evaluation.truth.layout import Section, band, unmeasured
from wmcomponents.world_model import WorldModel

SHOWN_AT = 4
"""The step at which Genie's delta-PSNR is read."""


def actions_section(model: WorldModel, evidence: Evidence, *, burn_in: int, horizon: int, seed: int) -> Section:
    """The error under the real actions beside that under actions of other sequences, with the same noise.

    Where a model ignores its actions the two are equal. Of images it is delta-PSNR: PSNR under the real actions less
    PSNR under others.

    Args:
        model: decodes, or is read through a probe.
        evidence: real sequences.
        burn_in: real observations that the filter sees first.
        horizon: steps to imagine.
        seed: of the dreams.

    Reference: Bruce et al., Genie (2024), section 3.
    """
    if "decode" not in model.capabilities:
        return unmeasured("the model shows no observations, so their errors cannot be compared.")
    sequences, rows = model.relabelled(evidence.sequences), len(evidence.episodes)
    if rows < 2:
        return unmeasured("there is one sequence; other actions come from other sequences.")
    others = sequences.clone(False)
    swapped = sequences["action"].clone()
    first = burn_in - 1
    swapped[:, first:] = sequences["action"].roll(rows // 2, 0)[:, first:]
    others["action"] = swapped
    real, wrong = (_errors(model, one, burn_in, horizon, seed) for one in (sequences, others))
    counts, found = evidence.counts(seed), []
    for key, kind in codecs_from_spec(model.observation_spec).items():
        is_picture = isinstance(kind, ImageCodec)
        gain = real[key] - wrong[key] if is_picture else wrong[key] - real[key]
        found.append({
            "name": key,
            "metric": "PSNR" if is_picture else measure_of(kind).metric,
            "gain": band(gain, counts),
            "under_the_real": band(real[key], counts),
            "under_others": band(wrong[key], counts),
        })  # fmt: skip
    return {"at": min(SHOWN_AT, horizon), "quantities": found}


def _errors(model: WorldModel, sequences: TensorDictBase, burn_in: int, horizon: int, seed: int) -> dict[str, Tensor]:
    """By key: the error of each sequence, of images their PSNR, ``[B, K]``; NaN once its episode has ended."""
    kinds = codecs_from_spec(model.observation_spec)
    measures = {
        key: measure_of(kind).fit(sequences["next", key])
        for key, kind in kinds.items()
        if not isinstance(kind, ImageCodec)
    }
    generator = torch.Generator(next(iter(model.parameters())).device).manual_seed(seed)
    found: dict[str, list[Tensor]] = {key: [] for key in kinds}
    for step in open_loop(model, sequences, burn_in=burn_in, horizon=horizon, generator=generator):
        assert step.observation is not None
        for key, kind in kinds.items():
            shown, truth = step.observation[key].cpu(), cast(Tensor, step.transition["next", key]).cpu()
            if isinstance(kind, ImageCodec):
                value = psnr(kind.encode(shown).movedim(-1, -3), kind.encode(truth).movedim(-1, -3))
            else:
                value = measures[key].error(shown, truth)
            found[key].append(torch.where(step.alive.cpu(), value.double(), float("nan")))
    return {key: torch.stack(values, 1) for key, values in found.items()}
