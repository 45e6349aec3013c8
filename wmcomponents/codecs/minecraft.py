"""Minecraft's keys and mouse as the 25 numbers that Oasis reads, as the VPT recordings name them."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

MINECRAFT_KEYS = (
    "inventory",
    "ESC",
    *(f"hotbar.{number}" for number in range(1, 10)),
    "forward",
    "back",
    "left",
    "right",
    "cameraX",
    "cameraY",
    "jump",
    "sneak",
    "sprint",
    "swapHands",
    "attack",
    "use",
    "pickItem",
    "drop",
)
"""What each of the 25 numbers stands for."""

CAMERA = ("cameraX", "cameraY")
CAMERA_CENTRE = 40
"""The camera's movement is told as a bucket from 0 to 80, of which this one is none; as a number from -1 to 1 here."""


def minecraft_action(pressed: Mapping[str, Any]) -> Float[Tensor, "25"]:
    """One action: 1 for a key that is held, the camera's movement from -1 to 1 along each axis.

    Args:
        pressed: by the names of :data:`MINECRAFT_KEYS`, 0 or 1 for keys, buckets from 0 to 80 for "cameraX" and
            "cameraY", or both as a pair "camera", X first. What is not named is not held, and does not move.

    Raises:
        ValueError: for another name, a bucket that there is not, or a key that is neither held nor not.

    Reference: Oasis (Decart and Etched, 2024), and its code; Baker et al., VPT (2022), for the buckets.

    >>> minecraft_action({"forward": 1, "camera": (50, 40)})[[11, 15, 16]].tolist()
    [1.0, 0.25, 0.0]
    """
    held = dict(pressed)
    if "camera" in held:
        camera = held.pop("camera")
        if len(camera) != 2 or any(name in held for name in CAMERA):
            raise ValueError(f"the camera is told once, by two buckets; got {pressed}.")
        held |= zip(CAMERA, camera, strict=True)
    unknown = [name for name in held if name not in MINECRAFT_KEYS]
    if unknown:
        raise ValueError(f"the keys are {', '.join(MINECRAFT_KEYS)}, or camera; got {', '.join(map(str, unknown))}.")
    vector = torch.zeros(len(MINECRAFT_KEYS))
    for name, value in held.items():
        number = float(value)
        if name in CAMERA:
            if not 0 <= number <= 2 * CAMERA_CENTRE:
                raise ValueError(f"buckets of {name} go from 0 to {2 * CAMERA_CENTRE}; got {value}.")
            number = (number - CAMERA_CENTRE) / CAMERA_CENTRE
        elif number not in (0.0, 1.0):
            raise ValueError(f"a key is held (1) or not (0); got {value} for {name}.")
        vector[MINECRAFT_KEYS.index(name)] = number
    return vector


def minecraft_keys(action: Float[Tensor, "25"]) -> dict[str, int]:
    """The way back from :func:`minecraft_action`: what is held, and the camera's buckets where it moves.

    Args:
        action: one action; a key counts as held from 0.5 on.

    Raises:
        ValueError: if it has another number of numbers.

    >>> minecraft_keys(minecraft_action({"jump": 1, "cameraX": 50}))
    {'cameraX': 50, 'jump': 1}
    """
    if action.shape != (len(MINECRAFT_KEYS),):
        raise ValueError(f"an action has {len(MINECRAFT_KEYS)} numbers; got {[*action.shape]}.")
    held = {}
    for name, value in zip(MINECRAFT_KEYS, action.tolist(), strict=True):
        if name in CAMERA:
            if value:
                held[name] = round(CAMERA_CENTRE * (1.0 + value))
        elif value >= 0.5:
            held[name] = 1
    return held
