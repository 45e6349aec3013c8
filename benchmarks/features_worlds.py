"""The worlds of features of the benchmark, how each is fitted and how plans are made in it."""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from wmcomponents.data.two_rooms import DOOR, PUBLISHED_DOOR

IMAGE_SIZE, STEPS, MORE, EPISODE, REPEAT = 32, 128_000, 512_000, 20, 0.95
BATCH, LENGTH, UPDATES, LONGER, LONG, PRETRAINING = 48, 8, 1_500, 4_500, 12_000, 1_500
EPISODES, MAX_STEPS = 50, 200


class Plans(NamedTuple):
    """How plans are made.

    Attributes:
        horizon: moves of a plan.
        candidates: plans of an iteration.
        iterations: of iCEM.
        executed: moves of a plan that are executed.
    """

    horizon: int = 60
    candidates: int = 128
    iterations: int = 1
    executed: int = 8


FEWER = Plans(40, 64)
"""For transformers, of which a predicted step costs tens of times that of a perceptron."""


@dataclass(frozen=True)
class World:
    """What is fitted, and how.

    Attributes:
        family: of ``MODELS``.
        told: in the table.
        changes: of the ``tiny`` preset.
        updates: gradient steps.
        lr: learning rate, which falls to a twentieth along half a cosine.
        plans: how plans are made in it.
        on_encoder: whether the world stands on a frozen encoder, which is pretrained on the same walks.
        image_size: side of the images.
        steps: of random walks that it learns from.
        door: width of the door in its rooms.
        door_starts: share of its random walks that begin by a door.
        precision: of its losses.
    """

    family: str
    told: str
    changes: dict[str, Any] = field(default_factory=dict)
    updates: int = UPDATES
    lr: float = 2e-3
    plans: Plans = Plans()
    on_encoder: bool = False
    image_size: int = IMAGE_SIZE
    steps: int = STEPS
    door: float = DOOR
    door_starts: float = 0.0
    precision: Literal["float32", "bf16"] = "float32"


SCALE: dict[str, Any] = {"pixel_mean": (0.005, 0.17, 0.0), "pixel_std": (0.26, 0.33, 1.0)}
"""Means of the channels, the deviation of the walls, and for the dot one that shows it a little larger than they are.

By its own deviation, 0.05, the dot is told after 500 updates and the door not after 1,500; as bright as the walls, it
is the other way round after 500. Without a scale both are told as well after 3,000 as with this one after 500."""

SIZES: dict[str, Any] = {
    **SCALE, "predictor": "mlp", "units": 512, "latent": 128, "channels": (8, 16, 32), "blocks": 0,
    "similarity": 3.0,
}  # fmt: skip
"""A perceptron learns how the dot moves in a fifth of a GRU's updates, and convolutions alone cost half as much.
With a quarter of the published weight of temporal similarity the dot is told better: after 1,000 updates and 20 steps
it is foretold to 9 pixels in place of 12."""

DIMMED: dict[str, Any] = {"pixel_std": (0.5, 0.33, 1.0)}
"""With the deviation above, R^2 in images of 64 pixels is 1.00 of the dot, 0.27 of the wall and -0.05 of the door."""

SLOW: dict[str, Any] = {**SIZES, "channels": (8, 16, 32, 64), "similarity": 24.0}
"""Walls and doors do not move, so that a large weight of temporal similarity makes the encoder tell them, too.

In images of 64 pixels after 1,500 updates R^2 of the dot, the wall and the door is 1.00, 0.25 and -0.05 with a weight
of 3; 1.00, 0.42 and -0.03 with 12; 0.84, 0.97 and 0.94 with 40; and with this one, and a fourth stack of convolutions,
which see the whole image then, 1.00, 0.86 and 0.14."""

SLOW_UPDATES, SLOW_STEPS = 5_000, 256_000

MAPS: dict[str, Any] = {
    **SCALE, "predictor": "conv", "units": 512, "latent": 8, "channels": (16, 32), "blocks": 2, "similarity": 3.0,
}  # fmt: skip
"""Eight numbers at each of 8 x 8 places, which convolutions predict: what a wall does to a dot is told from what is
near it."""

NO_TERM = {"variance": 0.0, "covariance": 0.0, "similarity": 0.0, "inverse_dynamics": 0.0}
UNAIDED = {**NO_TERM, "against_collapse": "none"}
BESIDE: dict[str, Any] = {**SCALE, "channels": (8, 16, 32), "blocks": 0}

WORLDS = {
    "jepa-64-slow": World(
        "JEPA",
        f"JEPA, 64 pixels, slow features, {SLOW_UPDATES:,} updates, half of {SLOW_STEPS:,} steps from doors",
        {**SLOW, "similarity": 28.0},
        SLOW_UPDATES,
        image_size=64,
        steps=SLOW_STEPS,
        door_starts=0.5,
        precision="bf16",
    ),
    "jepa-64-slow-short": World(
        "JEPA",
        "JEPA, 64 pixels, slow features, half the walks from doors",
        SLOW,
        image_size=64,
        door_starts=0.5,
        precision="bf16",
    ),
    "jepa-map": World("JEPA", "JEPA, eb_jepa's four terms, a map predicted by convolutions", MAPS),
    "jepa-long": World("JEPA", f"JEPA, eb_jepa's four terms, {LONG:,} updates", SIZES, LONG, plans=Plans(60, 256)),
    "jepa-wide": World("JEPA", "JEPA, eb_jepa's four terms, wide door", SIZES, door=PUBLISHED_DOOR),
    "jepa-64-doors": World("JEPA", "JEPA, 64 pixels, half the walks from doors", SIZES, image_size=64, door_starts=0.5),
    "jepa-64-wide": World("JEPA", "JEPA, 64 pixels, wide door", SIZES, image_size=64, door=PUBLISHED_DOOR),
    "jepa-64-more": World(
        "JEPA",
        f"JEPA, 64 pixels, {LONGER:,} updates, {MORE:,} steps of walks",
        SIZES,
        LONGER,
        image_size=64,
        steps=MORE,
    ),
    "jepa-64-long": World("JEPA", f"JEPA, 64 pixels, {LONGER:,} updates", SIZES, LONGER, image_size=64),
    "jepa-64": World("JEPA", "JEPA, eb_jepa's four terms, 64 pixels", SIZES, image_size=64),
    "jepa-64-even": World("JEPA", "JEPA, 64 pixels, the dot half as bright", {**SIZES, **DIMMED}, image_size=64),
    "jepa": World("JEPA", "JEPA, eb_jepa's four terms", SIZES),
    "jepa-no-variance": World("JEPA", "without the variance", {**SIZES, "variance": 0.0}),
    "jepa-no-covariance": World("JEPA", "without the covariances", {**SIZES, "covariance": 0.0}),
    "jepa-no-similarity": World("JEPA", "without temporal similarity", {**SIZES, "similarity": 0.0}),
    "jepa-no-inverse": World("JEPA", "without inverse dynamics", {**SIZES, "inverse_dynamics": 0.0}),
    "jepa-sigreg": World("JEPA", "SIGReg", {**SIZES, **NO_TERM, "against_collapse": "distribution"}),
    "jepa-pldm": World("JEPA", "PLDM's terms", {**SIZES, "against_collapse": "pldm"}),
    "jepa-average": World("JEPA", "an average as target, no term", {**SIZES, **UNAIDED, "target": "average"}),
    "jepa-none": World("JEPA", "nothing", {**SIZES, **UNAIDED}),
    "lewm": World("LeWM", "LeWorldModel", BESIDE, lr=1e-3, plans=FEWER),
    "pldm": World("PLDM", "PLDM", {**BESIDE, "network.units": 512}, lr=1e-3),
    "dino-wm": World("DINOWM", "DINO-WM on a masked autoencoder's patches", {"frames": 1}, 2_000, 1e-3, FEWER, True),
}  # fmt: skip
"""By the name of their run."""
