"""Observations drawn by the real environment's own renderer, where its state can be read off the observation."""

import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
from torchrl.data import Composite

from wmcomponents._extras import require
from wmcomponents.rendering.frames import frame

Renderer = Callable[[Mapping[str, np.ndarray]], np.ndarray]
"""From one observation (arrays by key, no batch dims) to an RGB frame, uint8 ``(H, W, 3)``."""

FAR = 100.0
"""Dreamt numbers are clamped to this before they are drawn: pixel coordinates are small integers."""


def make_renderer(env_id: str | None, spec: Composite | None = None, *, enlarge: bool = True) -> Renderer:
    """The best renderer for an environment's observations.

    Args:
        env_id: the environment's id; one of :data:`RENDERERS` is drawn as the environment draws itself.
        spec: spec of one observation, for the fallback: images as they are, planes in colours, vectors as bars.
        enlarge: small images, by whole factors; for a screen that does so itself they stay as they are.
    """
    exact = RENDERERS.get(env_id or "")
    vector = spec is None or ("observation" in spec.keys() and len(spec["observation"].shape) == 1)
    if exact is not None and vector:
        return exact
    return lambda observation: frame(observation, spec, enlarge=enlarge)


def cartpole(observation: Mapping[str, np.ndarray]) -> np.ndarray:
    """Cart and pole, from position, velocity, angle and angular velocity."""
    env = _env("CartPole-v1")
    env.state = _numbers(observation)
    return env.render()


def pendulum(observation: Mapping[str, np.ndarray]) -> np.ndarray:
    """The rod, from cosine, sine and angular velocity."""
    env = _env("Pendulum-v1")
    cos, sin, speed = _numbers(observation)
    env.state, env.last_u = np.array([np.arctan2(sin, cos), speed]), None
    return env.render()


def mountain_car(observation: Mapping[str, np.ndarray]) -> np.ndarray:
    """The car on its hill, from position and velocity."""
    env = _env("MountainCar-v0")
    position, speed = _numbers(observation)
    env.state = (float(np.clip(position, env.min_position, env.max_position)), float(speed))
    return env.render()


def acrobot(observation: Mapping[str, np.ndarray]) -> np.ndarray:
    """The two links, from cosines and sines of both angles, and angular velocities."""
    env = _env("Acrobot-v1")
    cos1, sin1, cos2, sin2, speed1, speed2 = _numbers(observation)
    env.state = np.array([np.arctan2(sin1, cos1), np.arctan2(sin2, cos2), speed1, speed2])
    return env.render()


RENDERERS: dict[str, Renderer] = {
    "CartPole-v0": cartpole,
    "CartPole-v1": cartpole,
    "Pendulum-v1": pendulum,
    "MountainCar-v0": mountain_car,
    "MountainCarContinuous-v0": mountain_car,
    "Acrobot-v1": acrobot,
}
"""Environments whose observation says all that their renderer needs."""


@cache
def _env(env_id: str) -> Any:
    gymnasium = require("gymnasium", extra="gym")
    require("pygame", extra="gym")
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
    env = gymnasium.make(env_id, render_mode="rgb_array", disable_env_checker=True).unwrapped
    env.reset(seed=0)
    return env


def _numbers(observation: Mapping[str, np.ndarray]) -> np.ndarray:
    values = np.asarray(observation["observation"], dtype=np.float64).reshape(-1)
    return np.clip(np.nan_to_num(values), -FAR, FAR)
