"""The games, the families and how each family is fitted to images."""

from dataclasses import dataclass, field
from typing import Any

from benchmarks.fitting import Fit
from wmcomponents.training import ConstantThenDecay

BURN_IN, KS, HELD_OUT_SEQUENCES, DREAMS = 5, (1, 5, 10), 256, 2
FAMILIES = {"IRIS": "IRIS", "DeltaIRIS": "Delta-IRIS", "Diamond": "DIAMOND"}
"""Names of the papers' models by those of the library's."""


@dataclass(frozen=True)
class World:
    """A real game and how its images are made.

    Attributes:
        preset: of every family.
        seeds: of data and fit.
        options: of ``make_env``.
        says: in words.
        film_steps: of the film.
        fps: frames a second of the film.
    """

    preset: str
    seeds: tuple[int, ...]
    options: dict[str, Any]
    says: str
    film_steps: int
    fps: float


@dataclass(frozen=True)
class PixelFit(Fit):
    """How a family's preset is fitted to images.

    Attributes:
        lr: learning rate; the preset's own if not given.
        tokenizer: share of the updates that are the tokenizer's, of families that train one first.
    """

    lr: float | None = None
    tokenizer: float | None = None
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> dict[str, Any]:
        """Entries of the model's config that differ from the preset, the length of the first stage among them."""
        if self.tokenizer is None:
            return self.changes
        return {**self.changes, "tokenizer_steps": round(self.tokenizer * self.updates)}

    def schedule(self, step: int) -> float:
        """Each stage at the full rate first, then cooling."""
        begin = 0
        for name in STAGES:
            length = self.config.get(name, 0)
            if step < begin + length:
                return ConstantThenDecay(length)(step - begin)
            begin += length
        return ConstantThenDecay(max(1, self.updates - begin))(step - begin)


STAGES = ("tokenizer_steps", "autoencoder_steps", "teacher_steps", "ode_steps")
"""Entries of configs that say how long a stage is which another follows, in their order."""


WORLDS = {
    "MinAtar/Breakout-v1": World(
        "tiny",
        (0, 1),
        {"from_pixels": True, "image_size": 16},
        "its 10x10 board, one colour a plane, in the middle of a 16x16 image; sticky actions as the game has them "
        "(0.1)",
        40,
        6.0,
    ),
    "ALE/Pong-v5": World(
        "pong",
        (0,),
        {"image_size": 64, "sticky_actions": 0.0},
        "64x64 in colour, 4 frames an action, no sticky actions, up to 30 no-ops at reset, as in Atari 100k",
        60,
        12.0,
    ),
}

MINATAR, PONG = "MinAtar/Breakout-v1", "ALE/Pong-v5"

# A token model forgets what came before the present frame when its context is full, and with it where the ball of Pong
# flies: the context holds what the filter sees and what is dreamt after it.
IRIS_WIDE, DELTA_WIDE = {"max_frames": 16}, {"max_blocks": 16}

FITS: dict[tuple[str, str], PixelFit] = {
    ("IRIS", MINATAR): PixelFit(updates=1400, tokenizer=0.4),
    ("DeltaIRIS", MINATAR): PixelFit(updates=1700, sequence_length=16, tokenizer=0.53),
    ("Diamond", MINATAR): PixelFit(updates=2000),
    ("IRIS", PONG): PixelFit(updates=2200, sequence_length=16, batch_size=8, tokenizer=0.45, changes=IRIS_WIDE),
    ("DeltaIRIS", PONG): PixelFit(updates=2320, sequence_length=16, batch_size=4, tokenizer=0.82, changes=DELTA_WIDE),
    ("Diamond", PONG): PixelFit(updates=3200, sequence_length=16, batch_size=8),
}
"""Updates of 8 to 30 CPU minutes."""


def run_name(family: str, env_id: str, seed: int) -> str:
    """Of a fit's files."""
    return f"{family}-{env_id.replace('/', '-')}-{seed}"
