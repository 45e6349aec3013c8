"""Real environments by id, through TorchRL's own environment classes."""

import difflib
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from ctypes.util import find_library
from typing import Any

import torch
from torchrl.data import TensorSpec
from torchrl.envs import (
    Compose,
    DMControlWrapper,
    DoubleToFloat,
    EnvBase,
    InitTracker,
    SerialEnv,
    StepCounter,
    TransformedEnv,
)

from wmcomponents._extras import MissingExtraError, require
from wmcomponents.codecs import ExactGymWrapper
from wmcomponents.codecs import action_spec as action_spec
from wmcomponents.codecs import observation_spec as observation_spec
from wmcomponents.data.boards import fitted, painted

ATARI_FRAME_SKIP = 4  # Machado et al., 2018
DMC_ACTION_REPEAT = 2  # PlaNet and Dreamer on pixels, TD-MPC2 on proprioception
DMC_DOMAIN_ALIASES = {"cup": "ball_in_cup", "pointmass": "point_mass"}  # the short names of the papers' task lists
DMC_CAMERAS = {"quadruped": 2}  # the camera that follows the body; camera 0 loses it

# Which extra installs what an entry point of Gymnasium's own registry needs.
_EXTRA_OF_MODULE = {
    "gymnasium.envs.box2d": "box2d",
    "gymnasium.envs.classic_control": "gym",
    "gymnasium.envs.toy_text": "gym",
    "gymnasium.envs.mujoco": "dmc",
    "ale_py": "atari",
    "minatar": "minatar",
}


class UnknownEnvironmentError(ValueError):
    """No environment is known by this id; the message names the closest ids and what would make it known."""


def make_env(
    env_id: str,
    *,
    num_envs: int = 1,
    image_size: int | None = 64,
    action_repeat: int | None = None,
    from_pixels: bool = False,
    sticky_actions: float | None = None,
    seed: int | None = None,
    max_episode_steps: int | None = None,
    device: torch.device | str = "cpu",
) -> TransformedEnv:
    """Build a real environment by its id.

    ============================== =========================================== ===================================
    id                             observation                                 actions
    ============================== =========================================== ===================================
    Gymnasium (``CartPole-v1``)    ``observation`` float32, or ``pixels``       one-hot, or bounded float32
    ``ALE/<Game>-v5``              ``pixels`` uint8 ``[H, W, 3]``              one-hot
    ``MinAtar/<Game>-v1``          ``observation`` bool ``[10, 10, C]``, or    one-hot
                                   ``pixels``
    ``dm_control/<domain>-<task>`` one float32 key each, or ``pixels``         bounded float32
    ============================== =========================================== ===================================

    Images are ``[H, W, 3]`` uint8 and resized to ``image_size``; observations, actions and rewards of float64 become
    float32; ``is_init`` marks the first step of an episode. At a done step the observation the episode ended in stands
    under ``("next", key)``, and the root of the following step is the next episode's first observation.

    Atari follows Gymnasium's ``AtariPreprocessing``: up to 30 no-ops at reset, the maximum over the last two frames of
    each action, area interpolation, colour kept. A game that ends in the middle of a repeated action keeps the picture
    of the frames seen so far. MinAtar's pixels are its board with one colour a plane, enlarged by a whole factor into
    the middle of the image.

    Args:
        env_id: see the table. Any id in Gymnasium's registry works, also of packages you registered yourself.
        num_envs: 1 gives an environment without batch dimension; N > 1 gives batch ``[N]``, stepped one after the
            other in this process (a world model is fed by few real steps; processes cost more than they bring).
        image_size: side of the images, in pixels; ``None`` keeps the environment's own size.
        action_repeat: real steps per action, rewards summed. Defaults to 4 for Atari, 2 for dm_control, 1 elsewhere.
        from_pixels: show rendered images in place of the environment's own observation.
        sticky_actions: probability that Atari or MinAtar repeats the previous action in place of the new one. ``None``
            keeps the environment's own (0.25 for ``ALE/*-v5``, 0.1 for MinAtar); Atari 100k uses 0.
        seed: seeds the environments; row i of a batch gets its own seed.
        max_episode_steps: truncate episodes after this many actions, on top of the environment's own limit. Adds the
            key ``step_count``.
        device: where observations are put.

    Raises:
        UnknownEnvironmentError: no such id.
        MissingExtraError: the package behind the id is not installed.
        ValueError: for a count below 1, or ``sticky_actions`` where there is no such thing.
    """
    counts = {
        "num_envs": num_envs,
        "image_size": image_size,
        "action_repeat": action_repeat,
        "max_episode_steps": max_episode_steps,
    }
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(f"{name} must be at least 1; got {count}.")
    build = _builder(env_id, image_size, action_repeat, from_pixels, sticky_actions, device)
    base = build() if num_envs == 1 else SerialEnv(num_envs, build)
    transforms: list[Any] = [InitTracker()]
    if any(spec.dtype == torch.float64 for spec in _leaf_specs(base)):
        transforms.append(DoubleToFloat())
    if max_episode_steps is not None:
        transforms.append(StepCounter(max_episode_steps))
    env = TransformedEnv(base, Compose(*transforms) if len(transforms) > 1 else transforms[0])
    if seed is not None:
        env.set_seed(seed)
    return env


def _builder(
    env_id: str,
    image_size: int | None,
    action_repeat: int | None,
    from_pixels: bool,
    sticky_actions: float | None,
    device: torch.device | str,
) -> Callable[[], EnvBase]:
    """Check the id once and return what builds one instance."""
    namespace = env_id.split("/")[0] if "/" in env_id else ""
    if sticky_actions is not None and namespace not in ("ALE", "MinAtar"):
        raise ValueError(f"sticky_actions is for Atari and MinAtar ids; {env_id!r} has none. Leave it None.")
    if namespace == "dm_control":
        domain, task = _dmc_names(env_id)
        return lambda: _make_dmc(domain, task, image_size, action_repeat or DMC_ACTION_REPEAT, from_pixels, device)
    _register_namespace(namespace)
    _check_registered(env_id)
    if namespace == "ALE":
        return lambda: _make_atari(env_id, image_size, action_repeat or ATARI_FRAME_SKIP, sticky_actions, device)
    kwargs = {} if sticky_actions is None else {"sticky_action_prob": sticky_actions}
    if namespace == "MinAtar" and from_pixels:
        return lambda: _make_minatar_pixels(env_id, image_size, action_repeat or 1, device, **kwargs)
    return lambda: _make_gym(env_id, image_size, action_repeat or 1, from_pixels, device, **kwargs)


def _make_gym(
    env_id: str,
    image_size: int | None,
    action_repeat: int,
    from_pixels: bool,
    device: torch.device | str,
    **kwargs: Any,
) -> EnvBase:
    from gymnasium.wrappers import AddRenderObservation, ResizeObservation

    if from_pixels:  # else left out: an environment of the user's need not know the argument
        kwargs["render_mode"] = "rgb_array"
    env = _gym_make(env_id, **kwargs)
    if from_pixels:
        with _extra_named(env_id):  # drawing may need more than stepping
            env = AddRenderObservation(env, render_only=True)
    space = env.observation_space
    shape = tuple(space.shape or ())
    is_image = space.dtype == "uint8" and len(shape) == 3 and shape[2] == 3
    if is_image and image_size is not None and shape != (image_size, image_size, 3):
        require("cv2", extra="atari")
        env = ResizeObservation(env, (image_size, image_size))
    return ExactGymWrapper(env, frame_skip=action_repeat, device=device)


def _make_minatar_pixels(
    env_id: str, image_size: int | None, action_repeat: int, device: torch.device | str, **kwargs: Any
) -> EnvBase:
    import numpy as np
    from gymnasium.spaces import Box, Dict
    from gymnasium.wrappers import TransformObservation

    env = _gym_make(env_id, **kwargs)
    shape = env.observation_space.shape or ()
    size = image_size if image_size is not None else max(shape[:2])
    space = Dict(pixels=Box(0, 255, (size, size, 3), np.uint8))
    drawn = TransformObservation(env, lambda board: {"pixels": fitted(painted(board), size)}, space)
    return ExactGymWrapper(drawn, frame_skip=action_repeat, device=device)


def _make_atari(
    env_id: str,
    image_size: int | None,
    frame_skip: int,
    sticky_actions: float | None,
    device: torch.device | str,
) -> EnvBase:
    from gymnasium.wrappers import AtariPreprocessing

    require("cv2", extra="atari")
    kwargs = {} if sticky_actions is None else {"repeat_action_probability": sticky_actions}
    env = _gym_make(env_id, frameskip=1, **kwargs)
    size = image_size if image_size is not None else (160, 210)
    return ExactGymWrapper(
        AtariPreprocessing(env, frame_skip=frame_skip, screen_size=size, grayscale_obs=False), device=device
    )


def _make_dmc(
    domain: str,
    task: str,
    image_size: int | None,
    action_repeat: int,
    from_pixels: bool,
    device: torch.device | str,
) -> EnvBase:
    from dm_control import suite

    env = suite.load(domain, task)
    if not from_pixels:
        return DMControlWrapper(env, frame_skip=action_repeat, device=device)
    render: dict[str, Any] = {} if image_size is None else {"height": image_size, "width": image_size}
    render["camera_id"] = DMC_CAMERAS.get(domain, 0)
    return DMControlWrapper(
        env, from_pixels=True, pixels_only=True, render_kwargs=render, frame_skip=action_repeat, device=device
    )


def _gym_make(env_id: str, **kwargs: Any) -> Any:
    """``gymnasium.make`` that says which extra is missing, and keeps the noise of native libraries down."""
    import gymnasium

    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")  # pygame opens the sound card even to draw an array
    if sys.platform.startswith("linux") and not os.environ.keys() & {"DISPLAY", "WAYLAND_DISPLAY"}:
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    with _extra_named(env_id), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # SWIG's types and pkg_resources, at first import
        return gymnasium.make(env_id, disable_env_checker=True, **kwargs)


@contextmanager
def _extra_named(env_id: str) -> Iterator[None]:
    """Turn Gymnasium's complaint about a missing package into ours, which names the extra that installs it."""
    import gymnasium

    try:
        yield
    except gymnasium.error.DependencyNotInstalled as error:
        entry_point = str(gymnasium.spec(env_id).entry_point)
        for module, extra in _EXTRA_OF_MODULE.items():
            if entry_point.startswith(module):
                raise MissingExtraError(
                    f"{env_id!r} needs a package that is not installed ({error}); "
                    f"run: pip install 'wmcomponents[{extra}]'"
                ) from error
        raise


def _register_namespace(namespace: str) -> None:
    """Fill Gymnasium's registry with the ids of the package behind a namespace."""
    gymnasium = require("gymnasium", extra="gym")
    registered = {spec.namespace for spec in gymnasium.registry.values()}
    if namespace == "ALE":
        ale_py = require("ale_py", extra="atari")
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # before the first one greets on stderr
        gymnasium.register_envs(ale_py)
    elif namespace == "MinAtar" and "MinAtar" not in registered:
        require("minatar", extra="minatar")
        with _root_logger_untouched():  # the module announces a missing optional plotting package
            minatar_gym = require("minatar.gym", extra="minatar")
        minatar_gym.register_envs()


@contextmanager
def _root_logger_untouched() -> Iterator[None]:
    """Drop what a module logs on the root logger while it is imported, and the handler that this would install."""
    root = logging.getLogger()
    handlers = list(root.handlers)

    def drop(record: logging.LogRecord) -> bool:
        return False

    root.addFilter(drop)
    try:
        yield
    finally:
        root.removeFilter(drop)
        root.handlers[:] = handlers


def _check_registered(env_id: str) -> None:
    gymnasium = require("gymnasium", extra="gym")
    try:
        gymnasium.spec(env_id)
    except gymnasium.error.Error as error:
        raise _unknown(env_id, gymnasium.registry) from error


def _dmc_names(env_id: str) -> tuple[str, str]:
    """Domain and task of ``dm_control/<domain>-<task>``."""
    _choose_mujoco_renderer()
    suite = require("dm_control.suite", extra="dmc")
    name = env_id.removeprefix("dm_control/").removesuffix("-v0")
    domain, _, task = name.partition("-")
    domain = DMC_DOMAIN_ALIASES.get(domain, domain)
    if (domain, task) not in suite.ALL_TASKS:
        known = [f"dm_control/{one}-{other}" for one, other in suite.ALL_TASKS]
        raise _unknown(env_id, known)
    return domain, task


def _choose_mujoco_renderer() -> None:
    """Name a renderer that works without a screen, before dm_control is first imported and tries the screen."""
    if "MUJOCO_GL" in os.environ or "dm_control._render" in sys.modules or not sys.platform.startswith("linux"):
        return
    if find_library("EGL"):
        os.environ["MUJOCO_GL"] = "egl"
    elif find_library("OSMesa"):
        os.environ["MUJOCO_GL"] = "osmesa"


def _unknown(env_id: str, known: Iterable[str]) -> UnknownEnvironmentError:
    by_lower_case = {name.lower(): name for name in known}
    close = [by_lower_case[name] for name in difflib.get_close_matches(env_id.lower(), by_lower_case, n=5, cutoff=0.6)]
    meant = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    return UnknownEnvironmentError(
        f"No environment is known as {env_id!r}.{meant} Known are Gymnasium's ids (CartPole-v1), 'ALE/<Game>-v5', "
        f"'MinAtar/<Game>-v1' and 'dm_control/<domain>-<task>'. To make an id of another package known, register it "
        f"first: import package; gymnasium.register_envs(package)."
    )


def _leaf_specs(env: EnvBase) -> list[TensorSpec]:
    specs = (env.full_observation_spec, env.full_action_spec, env.full_reward_spec)
    return [leaf for spec in specs for leaf in spec.values(True, True)]
