"""Diffusion Forcing, one thing of its process changed at a time: what its network predicts, and the noise schedule."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.pixel_worlds import MINATAR, PixelFit
from benchmarks.pixels import check_settings, figures, held_against, train
from benchmarks.video_worlds import GAMES
from wmcomponents.models.loading import load

FAMILY, FIT = "DiffusionForcing", PixelFit(1200, 8, 16, changes={"steps": 8})


class Variant(NamedTuple):
    """A configuration that differs in one thing.

    Attributes:
        told: in the table.
        changes: of the fit's config.
        published: PSNR of NanoWM with the like, on RT-1 after 50,000 updates; ``None`` where it tells none.
    """

    told: str
    changes: dict[str, Any]
    published: float | None = None


VARIANTS = {
    "v": Variant("v, sigmoid schedule (as published)", {"target": "v"}, 23.07),
    "clean": Variant("the frame, sigmoid schedule", {"target": "clean"}, 23.37),
    "noise": Variant("the noise, linear schedule", {"target": "noise", "noise_schedule": "linear"}, 21.89),
    "cosine": Variant("v, cosine schedule", {"target": "v", "noise_schedule": "cosine"}),
}
"""By name; NanoWM's v and frame have a cosine schedule that ends in nothing but noise."""


def varied(name: str, seed: int, folder: Path) -> dict[str, Any]:
    """A variant, fitted with as many updates as the others and held against the same reality.

    Args:
        name: of ``VARIANTS``.
        seed: of data and fit.
        folder: what is kept.

    Raises:
        ValueError: if an earlier run had other settings.
    """
    how, home = FIT, folder / f"variant-{name}-{seed}"
    how = replace(how, changes={**how.changes, **VARIANTS[name].changes})
    check_settings(home / "settings.json", asdict(how))
    if not (home / "fit.json").is_file():
        train(FAMILY, MINATAR, seed, folder, how, float("inf"), GAMES[MINATAR], home)
    found = held_against(load(home / "model").eval(), MINATAR, seed, folder, GAMES[MINATAR])
    return {"variant": name, "seed": seed, **json.loads((home / "fit.json").read_text()), **figures(found)}
