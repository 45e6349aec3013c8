"""The section on generalisation: the same model, untouched, on levels or goals that it was not trained on."""

from collections.abc import Mapping
from typing import Any

import torch

from wmcomponents.evaluation.horizon import HorizonErrors, horizon_errors
from wmcomponents.evaluation.truth.evidence import Evidence
from wmcomponents.evaluation.truth.layout import Section, rounded, share, unmeasured
from wmcomponents.world_model import WorldModel


def levels_section(
    model: WorldModel,
    here: HorizonErrors,
    levels: Mapping[str, Evidence],
    *,
    burn_in: int,
    horizon: int,
    seed: int,
) -> Section:
    """Errors on every level, each in units of the better baseline there: below 1 something is known of it.

    Args:
        model: decodes, or is read through a probe.
        here: the errors on the report's own data.
        levels: real sequences by the level's name.
        burn_in: real observations that the filter sees first.
        horizon: steps to imagine.
        seed: of the dreams.
    """
    if not levels:
        return unmeasured("no other levels were given; name data folders or environments with --levels.")
    found = [{"name": "the report's own data", "quantities": relative(here)}]
    for name, evidence in levels.items():
        generator = torch.Generator(next(iter(model.parameters())).device).manual_seed(seed)
        span: dict[str, Any] = {"burn_in": burn_in, "horizon": horizon, "generator": generator}
        found.append({"name": name, "quantities": relative(horizon_errors(model, evidence.sequences, **span))})
    return {"levels": found}


def relative(errors: HorizonErrors) -> list[dict[str, Any]]:
    """The mean error over all imagined steps, over that of the better baseline; constant quantities are left out."""
    found = []
    for name, rows in errors.row_errors.items():
        if name.startswith("moving/"):
            continue
        model, copy, mean = (float(one.nanmean()) for one in rows)
        ratio = share(model, min(copy, mean))
        found.append({"name": name, "error": rounded(model), "relative_error": rounded(ratio)})
    return found
