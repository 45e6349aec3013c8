"""The video worlds of the benchmark, and how each is fitted."""

from dataclasses import replace
from typing import Any

from benchmarks.pixel_worlds import MINATAR, PONG, WORLDS, PixelFit

FAMILIES = {"DiffusionForcing": "Diffusion Forcing", "Oasis": "Oasis", "CausVid": "CausVid"}
"""Names of the papers' models by those of the library's."""

GAMES = {MINATAR: WORLDS[MINATAR], PONG: replace(WORLDS[PONG], preset="tiny")}

OF_PONG: dict[str, Any] = {
    "network.autoencoder.patch": 8,
    "network.autoencoder.latent": 16,
    "network.autoencoder.encoder": (128, 3, 4),
    "network.autoencoder.decoder": (128, 3, 4),
    "network.transformer.dim": 128,
    "network.transformer.depth": 4,
}
"""Patches of 8 pixels, a token for each."""

FITS: dict[tuple[str, str], PixelFit] = {
    ("DiffusionForcing", MINATAR): PixelFit(
        updates=2400, sequence_length=8, batch_size=16, changes={"target": "clean", "steps": 4}
    ),
    ("Oasis", MINATAR): PixelFit(
        updates=3600,
        sequence_length=8,
        batch_size=16,
        changes={"autoencoder_steps": 900, "target": "clean", "steps": 4},
    ),
    ("CausVid", MINATAR): PixelFit(
        updates=1700, sequence_length=8, batch_size=8, changes={"teacher_steps": 1500, "ode_steps": 100}
    ),
    ("DiffusionForcing", PONG): PixelFit(
        updates=1500,
        sequence_length=8,
        batch_size=8,
        changes={"network.patch": 4, "network.unet.dim": 32, "target": "clean", "steps": 4},
    ),
    ("Oasis", PONG): PixelFit(
        updates=2100, sequence_length=8, batch_size=8, changes={**OF_PONG, "autoencoder_steps": 1200, "worst": 0.01}
    ),
}
"""Updates of 15 to 35 CPU minutes."""

DRIFT_AT, DRIFT_ROWS = (1, 10, 50, 100, 200), 16
"""Steps at which a long dream is looked at, and how many are dreamt."""

CONTEXTS = {
    "scaled": "shown scaled, told as nearly clean (stabilised)",
    "noised": "shown with so much noise as they are told to have",
    "untouched": "shown clean, told as nearly clean",
}
"""How past frames are shown, in words."""

STEPS_TRIED, FEW_STEPS, SOLVER_STEPS = (1, 2, 4, 8, 16, 32), (1, 2, 4), 24
"""Of a sampler, of the distilled student, and of its teacher's solver."""

SWEPT_SEQUENCES = 96
"""Real sequences that each number of steps is held against, a dream each."""
