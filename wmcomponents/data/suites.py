"""Environments known by id: Gymnasium's registry, Atari, MinAtar, dm_control; and how one of them becomes TorchRL's."""

import difflib
import importlib
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr
from ctypes.util import find_library
from dataclasses import dataclass, replace
from io import StringIO
from typing import Any

import torch
from torchrl.envs import DMControlWrapper, EnvBase

from wmcomponents._extras import MissingExtraError, require
from wmcomponents.codecs import ExactGymWrapper
from wmcomponents.codecs.spaces import is_colour
from wmcomponents.data.boards import fitted, painted
from wmcomponents.data.resizing import resized

USUAL_IMAGE = 64  # the side of images in the papers of most families
ATARI_FRAME_SKIP = 4  # Machado et al., 2018
DMC_ACTION_REPEAT = 2  # PlaNet and Dreamer on pixels, TD-MPC2 on proprioception
DMC_DOMAIN_ALIASES = {"cup": "ball_in_cup", "pointmass": "point_mass"}  # the short names of the papers' task lists
DMC_CAMERAS = {"quadruped": 2}  # the camera that follows the body; camera 0 loses it

# How the ids of Gymnasium-Robotics begin, which have no namespace.
ROBOTICS = ("PointMaze_", "AntMaze_", "Fetch", "HandReach", "HandManipulate", "AdroitHand", "FrankaKitchen")
# Where the library's own worlds are registered.
_OWN = {"TwoRooms": "two_rooms", "PushT": "push_t", "PointMaze": "point_maze"}

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


@dataclass(frozen=True)
class Options:
    """How an environment is built: the arguments of :func:`make_env` that concern a single one."""

    image_size: int | None
    resizes_all: bool
    action_repeat: int | None
    from_pixels: bool
    sticky_actions: float | None
    device: torch.device | str
    kwargs: dict[str, Any]


def by_id(env_id: str, options: Options) -> Callable[[], EnvBase]:
    """Check the id once and return what builds one instance."""
    env_id = _imported(env_id)
    namespace = env_id.split("/")[0] if "/" in env_id else ""
    if options.sticky_actions is not None and namespace not in ("ALE", "MinAtar"):
        raise ValueError(f"sticky_actions is for Atari and MinAtar ids; {env_id!r} has none. Leave it None.")
    if namespace == "dm_control":
        domain, task = _dmc_names(env_id)
        return lambda: _make_dmc(domain, task, options)
    _register_namespace(namespace, env_id.removeprefix(f"{namespace}/"))
    _check_registered(env_id)
    if namespace == "ALE":
        return lambda: _make_atari(env_id, options)
    if namespace == "MinAtar":
        sticky = {} if options.sticky_actions is None else {"sticky_action_prob": options.sticky_actions}
        options = replace(options, kwargs={**options.kwargs, **sticky})
        if options.from_pixels:
            return lambda: _make_minatar_pixels(env_id, options)
    return lambda: around(_gym_make(env_id, **rendering(options)), options, env_id)


def _imported(env_id: str) -> str:
    """The id without its module, which has been imported and so registers it."""
    module, colon, name = env_id.rpartition(":")
    if not colon:
        return env_id
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # something that the module itself imports
        raise UnknownEnvironmentError(
            f"{env_id!r} names the module {module!r} to import, and there is none: install it, or start Python where "
            f"it lies."
        ) from error
    return name


def rendering(options: Options) -> dict[str, Any]:
    """Arguments of a Gymnasium environment; without pixels it need not know a render mode."""
    return {"render_mode": "rgb_array", **options.kwargs} if options.from_pixels else options.kwargs


def around(env: Any, options: Options, env_id: str = "") -> EnvBase:
    """An environment as TorchRL's, with its images resized."""
    if isinstance(env, EnvBase):
        if options.from_pixels or options.action_repeat not in (None, 1):
            raise ValueError(
                "from_pixels and action_repeat are for ids and Gymnasium environments; build the TorchRL environment "
                "with its own (from_pixels=True, frame_skip=...)."
            )
        return env
    if hasattr(env, "single_observation_space"):
        raise TypeError(
            f"{type(env).__name__} is a vector environment: pass what makes a single one, with num_envs; or wrap it in "
            f"torchrl.envs.GymWrapper."
        )
    if options.from_pixels:
        from gymnasium.wrappers import AddRenderObservation

        if env.render_mode != "rgb_array":
            raise ValueError(
                f"from_pixels shows what the environment renders: build it with render_mode='rgb_array'; it has "
                f"{env.render_mode!r}."
            )
        with _extra_named(env_id):  # drawing may need more than stepping
            env = AddRenderObservation(env, render_only=True)
    if options.image_size is not None and (options.resizes_all or is_colour(env.observation_space)):
        env = resized(env, options.image_size)
    return ExactGymWrapper(env, frame_skip=options.action_repeat or 1, device=options.device)


def _make_minatar_pixels(env_id: str, options: Options) -> EnvBase:
    import numpy as np
    from gymnasium.spaces import Box
    from gymnasium.wrappers import TransformObservation

    env = _gym_make(env_id, **options.kwargs)
    shape = env.observation_space.shape or ()
    size = options.image_size if options.image_size is not None else max(shape[:2])
    space = Box(0, 255, (size, size, 3), np.uint8)
    drawn = TransformObservation(env, lambda board: fitted(painted(board), size), space)
    return ExactGymWrapper(drawn, frame_skip=options.action_repeat or 1, device=options.device)


def _make_atari(env_id: str, options: Options) -> EnvBase:
    from gymnasium.wrappers import AtariPreprocessing

    require("cv2", extra="atari")
    sticky = {} if options.sticky_actions is None else {"repeat_action_probability": options.sticky_actions}
    env = _gym_make(env_id, **{"frameskip": 1, **options.kwargs, **sticky})
    size = options.image_size if options.image_size is not None else (160, 210)
    skip = options.action_repeat or ATARI_FRAME_SKIP
    return ExactGymWrapper(
        AtariPreprocessing(env, frame_skip=skip, screen_size=size, grayscale_obs=False), device=options.device
    )


def _make_dmc(domain: str, task: str, options: Options) -> EnvBase:
    from dm_control import suite

    own = dict(options.kwargs)
    camera = own.pop("camera_id", DMC_CAMERAS.get(domain, 0))
    env = suite.load(domain, task, **own)
    skip = options.action_repeat or DMC_ACTION_REPEAT
    if not options.from_pixels:
        return DMControlWrapper(env, frame_skip=skip, device=options.device)
    size = options.image_size
    render: dict[str, Any] = {} if size is None else {"height": size, "width": size}
    render["camera_id"] = camera
    return DMControlWrapper(
        env, from_pixels=True, pixels_only=True, render_kwargs=render, frame_skip=skip, device=options.device
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
        if not env_id:
            raise
        entry_point = str(gymnasium.spec(env_id).entry_point)
        for module, extra in _EXTRA_OF_MODULE.items():
            if entry_point.startswith(module):
                raise MissingExtraError(
                    f"{env_id!r} needs a package that is not installed ({error}); "
                    f"run: pip install 'wmcomponents[{extra}]'"
                ) from error
        raise


def _register_namespace(namespace: str, name: str) -> None:
    """Fill Gymnasium's registry with the ids of the package behind a namespace, or behind a name without one."""
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
    elif namespace == "wmcomponents":
        own = _OWN.get(name.rpartition("-v")[0], "two_rooms")
        importlib.import_module(f"wmcomponents.data.{own}")
    elif namespace == "gym_pusht":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # what pygame imports
            require("gym_pusht", extra="goals")
    elif not namespace and name.startswith(ROBOTICS) and name not in gymnasium.registry:
        gymnasium.register_envs(robotics())


def robotics() -> Any:
    """The package Gymnasium-Robotics, imported without what it says of old versions of some hands.

    Raises:
        MissingExtraError: if it is not installed.
    """
    choose_mujoco_renderer()
    with redirect_stderr(StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return require("gymnasium_robotics", extra="goals")


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
    choose_mujoco_renderer()
    suite = require("dm_control.suite", extra="dmc")
    name = env_id.removeprefix("dm_control/").removesuffix("-v0")
    domain, _, task = name.partition("-")
    domain = DMC_DOMAIN_ALIASES.get(domain, domain)
    if (domain, task) not in suite.ALL_TASKS:
        known = [f"dm_control/{one}-{other}" for one, other in suite.ALL_TASKS]
        raise _unknown(env_id, known)
    return domain, task


def choose_mujoco_renderer() -> None:
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
