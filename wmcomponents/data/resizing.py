"""Images of an environment brought to one size, in whatever layout they come."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from wmcomponents._extras import require
from wmcomponents.codecs.image_layout import image_axes


def resized(env: Any, size: int) -> Any:
    """A Gymnasium environment whose images are ``size`` a side, by area interpolation; itself where they all are.

    Images are arrays from 0 to 255 (or floats to 1) with two long sides: colour or grey, channels last or first, or
    stacks of frames; alone or in a ``Dict``.

    Args:
        env: the environment.
        size: height and width, in pixels.

    Raises:
        MissingExtraError: if OpenCV is not installed.
    """
    from gymnasium.spaces import Dict
    from gymnasium.wrappers import TransformObservation

    space = env.observation_space
    if not isinstance(space, Dict):
        change = _resize(space, size)
        return env if change is None else TransformObservation(env, change, _resized_space(space, size))
    changes = {name: _resize(entry, size) for name, entry in space.spaces.items()}
    if not any(changes.values()):
        return env

    def change_all(observation: dict[str, Any]) -> dict[str, Any]:
        return {
            name: value if (change := changes[name]) is None else change(value) for name, value in observation.items()
        }

    entries = [
        (name, entry if changes[name] is None else _resized_space(entry, size)) for name, entry in space.spaces.items()
    ]
    return TransformObservation(env, change_all, Dict(entries))


def _axes(space: Any) -> tuple[int, int] | None:
    from gymnasium.spaces import Box

    if not isinstance(space, Box) or space.dtype.name not in ("uint8", "float16", "float32", "float64"):
        return None
    low, high = torch.from_numpy(space.low), torch.from_numpy(space.high)
    axes = image_axes(space.shape, low.dtype, low, high)
    # Bytes of another range are symbols on a large board, unless they are three colours.
    is_full = low.dtype.is_floating_point or bool((low == 0).all() and (high == 255).all())
    return axes if is_full or space.shape[-1] == 3 else None


def _resized_space(space: Any, size: int) -> Any:
    from gymnasium.spaces import Box

    first, last = _axes(space) or (0, 1)
    shape = (*space.shape[:first], size, size, *space.shape[last + 1 :])
    return Box(space.low.min(), space.high.max(), shape, space.dtype.type)


def _resize(space: Any, size: int) -> Callable[[np.ndarray], np.ndarray] | None:
    """What resizes one entry; ``None`` for an entry that stays."""
    axes = _axes(space)
    if axes is None or tuple(space.shape[axis] for axis in axes) == (size, size):
        return None
    cv2 = require("cv2", extra="atari")
    first, dtype = axes[0], space.dtype
    # OpenCV knows neither half precision nor more than four channels for certain: a plane at a time.
    held = np.float32 if dtype == np.float16 else dtype
    planes_last = len(space.shape) == 3 and first == 0 and space.shape[2] <= 4

    def change(image: np.ndarray) -> np.ndarray:
        image = np.asarray(image, held)
        if planes_last:
            return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA).reshape(size, size, -1).astype(dtype)
        planes = np.moveaxis(image, axes, (0, 1))
        rest = planes.shape[2:]
        flat = planes.reshape(*planes.shape[:2], -1)
        small = [
            cv2.resize(np.ascontiguousarray(flat[..., i]), (size, size), interpolation=cv2.INTER_AREA)
            for i in range(flat.shape[-1])
        ]
        return np.moveaxis(np.stack(small, -1).reshape(size, size, *rest), (0, 1), axes).astype(dtype)

    return change
