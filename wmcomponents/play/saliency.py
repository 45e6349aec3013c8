"""Where in the next frame it matters what is done now."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from wmcomponents.dream.noise import MODE, StepNoise
from wmcomponents.dream.simulator import Simulator
from wmcomponents.world_model import Observation, State

FAINTEST = 8.0
"""Levels out of 255 by which frames must differ somewhere; fainter differences do not glow at full strength."""


def action_saliency(
    simulator: Simulator, state: State, actions: Tensor, draw: Callable[[Observation], list[np.ndarray]], *, seed: int
) -> np.ndarray:
    """How far the next frames under several actions lie apart, pixel by pixel; moves no row of the dream.

    All of them have the same noise, so that what differs is the action's doing.

    Args:
        simulator: the dream.
        state: s_t, one row.
        actions: ``[A, ...]``.
        draw: draws what is seen of A states, each uint8 ``(H, W, 3)``.
        seed: of the common noise.

    Returns:
        In [0, 1], ``(H, W)``: the largest distance of two actions' frames, over the largest of all pixels.
    """
    count = len(actions)
    rows = {key: value.repeat_interleave(count, 0) for key, value in state.items()}
    source = simulator.rules.noise_source
    noise = MODE
    if not source.empty:
        generator = torch.Generator(simulator.device).manual_seed(seed)
        z = source((1,), generator, simulator.device)
        noise = StepNoise({key: value.repeat_interleave(count, 0) for key, value in z.items()}, None)
    with torch.no_grad():
        after = simulator.foresee(rows, actions, (count,), noise=noise).state
        frames = np.stack(draw(simulator.look(after))).astype(np.int16)
    apart = (frames.max(0) - frames.min(0)).max(-1).astype(np.float64)
    return apart / max(float(apart.max()), FAINTEST)
