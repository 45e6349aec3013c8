"""Observations as frames a person can look at: images as they are, planes in colours, vectors as bars."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from torchrl.data import Bounded, Composite, TensorSpec

from wmcomponents.codecs.from_spec import codec_from_spec
from wmcomponents.codecs.observation import ImageCodec
from wmcomponents.data.boards import PALETTE, painted
from wmcomponents.dream.simulator import Simulator
from wmcomponents.world_model import State

SIZE = 256
"""Height and width of a drawn frame, in pixels."""


def frame(observation: Mapping[str, np.ndarray], spec: Composite | None = None, *, enlarge: bool = True) -> np.ndarray:
    """One observation as an RGB frame.

    The first image among the entries is shown, enlarged by whole factors; else the first stack of planes, one colour a
    plane; else all vectors as bars around zero (bounded entries scaled to their bounds, others squashed).

    Args:
        observation: arrays by key, without batch dims.
        spec: the observation's spec, for the bounds of vectors.
        enlarge: images and planes by whole factors, up to :data:`SIZE`; else each keeps its own pixels.

    Returns:
        uint8 ``(H, W, 3)``.
    """
    if spec is not None:
        observation = {key: _as_image(np.asarray(value), spec[key]) for key, value in observation.items()}
    cubes = [np.asarray(value) for value in observation.values() if np.asarray(value).ndim == 3]
    images = [cube for cube in cubes if cube.dtype == np.uint8 and cube.shape[-1] in (1, 3)]
    if images:
        image = images[0]
        image = np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image
        return _enlarged(image) if enlarge else np.ascontiguousarray(image)
    if cubes:
        return _enlarged(painted(cubes[0])) if enlarge else painted(cubes[0])
    return _bars(observation, spec)


def _as_image(value: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """An image of any layout and dtype as uint8 ``(H, W, 3 or 1)``, of a stack the last frame; others unchanged."""
    codec = codec_from_spec(spec)
    if not isinstance(codec, ImageCodec) or (codec.is_plain and value.shape[-1] in (1, 3)):
        return value
    levels = codec.levels(torch.as_tensor(value)).round().to(torch.uint8).numpy()
    channels = levels.shape[-1]
    if codec.is_plain and channels == 4:
        return levels[..., :3]  # the fourth of a single frame is its transparency
    return levels[..., -3:] if channels % 3 == 0 else levels[..., -1:]


def simulator_frames(simulator: Simulator) -> list[np.ndarray]:
    """The rows of a dream as frames: the decoded observation where the model has a decoder, else the current view.

    Raises:
        RuntimeError: before the first reset.
    """
    if not simulator.state:
        raise RuntimeError("nothing to render yet: call reset() first.")
    return state_frames(simulator, simulator.state)


def state_frames(simulator: Simulator, state: State) -> list[np.ndarray]:
    """Any states ``[N, ...]`` of a dream's model as frames: decoded where it has a decoder, else the dream's view."""
    spec = simulator.model.observation_spec
    with torch.no_grad(), simulator.evaluating:
        if "decode" in simulator.model.capabilities:
            seen = simulator.model.decode(state)
        else:
            seen, spec = simulator.look(state), simulator.observation_spec
    arrays = {key: value.cpu().numpy() for key, value in seen.items()}
    rows = len(next(iter(arrays.values())))
    return [frame({key: value[i] for key, value in arrays.items()}, spec) for i in range(rows)]


def _enlarged(image: np.ndarray) -> np.ndarray:
    factor = max(1, SIZE // max(image.shape[:2]))
    return np.ascontiguousarray(image.repeat(factor, axis=0).repeat(factor, axis=1))


def _bars(observation: Mapping[str, np.ndarray], spec: Composite | None) -> np.ndarray:
    canvas = np.full((SIZE, SIZE, 3), 255, dtype=np.uint8)
    heights = np.concatenate([_unit(key, np.asarray(value), spec).ravel() for key, value in observation.items()])[:SIZE]
    middle, width = SIZE // 2, SIZE // max(len(heights), 1)
    canvas[middle] = 0
    for i, height in enumerate(heights):
        top, bottom = sorted((middle, middle - int(round(float(height) * (middle - 1)))))
        gap = 1 if width > 3 else 0
        canvas[top : bottom + 1, i * width + gap : (i + 1) * width - gap] = PALETTE[i % len(PALETTE)]
    return canvas


def _unit(key: str, values: np.ndarray, spec: Composite | None) -> np.ndarray:
    """Values in [-1, 1]."""
    values = np.nan_to_num(values.astype(np.float64))
    leaf: Any = None if spec is None else spec[key]
    if isinstance(leaf, Bounded):
        box = cast(Any, leaf.space)
        bound = np.maximum(np.abs(box.low.cpu().numpy()), np.abs(box.high.cpu().numpy())).astype(np.float64)
        usable = np.isfinite(bound) & (bound < 1e6) & (bound > 0)
        return np.clip(np.where(usable, values / np.where(usable, bound, 1.0), np.tanh(values)), -1, 1)
    return cast(np.ndarray, np.tanh(values))
