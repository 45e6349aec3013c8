"""Real environments by id or as objects, through TorchRL's own environment classes."""

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torchrl.data import TensorSpec
from torchrl.envs import Compose, DoubleToFloat, EnvBase, InitTracker, SerialEnv, StepCounter, TransformedEnv

from wmcomponents._arguments import device_named, seed_or_none, whole
from wmcomponents.codecs import SpaceError, is_environment
from wmcomponents.codecs import action_spec as action_spec
from wmcomponents.codecs import observation_spec as observation_spec
from wmcomponents.data.suites import USUAL_IMAGE, Options, around, by_id, rendering
from wmcomponents.data.suites import UnknownEnvironmentError as UnknownEnvironmentError


def make_env(
    env: Any,
    *,
    env_kwargs: Mapping[str, Any] | None = None,
    num_envs: int = 1,
    image_size: int | Literal["usual"] | None = "usual",
    action_repeat: int | None = None,
    from_pixels: bool = False,
    sticky_actions: float | None = None,
    seed: int | None = None,
    max_episode_steps: int | None = None,
    device: torch.device | str = "cpu",
    **unknown: Any,
) -> TransformedEnv:
    """Build a real environment from its id, from what makes one, or around one.

    ============================== =========================================== ===================================
    id                             observation                                 actions
    ============================== =========================================== ===================================
    Gymnasium (``CartPole-v1``)    ``observation`` float32, or ``pixels``       one-hot, or bounded float32
    ``ALE/<Game>-v5``              ``pixels`` uint8 ``[H, W, 3]``              one-hot
    ``MinAtar/<Game>-v1``          ``observation`` bool ``[10, 10, C]``, or    one-hot
                                   ``pixels``
    ``wmcomponents/<World>-v0``    ``pixels`` uint8 ``[64, 64, 3]``             bounded float32
    ``dm_control/<domain>-<task>`` one float32 key each, or ``pixels``         bounded float32
    ============================== =========================================== ===================================

    Ids of Gymnasium may name the module that registers them: ``my_package:MyEnv-v0``. In place of an id comes a class
    or function that makes an environment of Gymnasium or TorchRL, or such an environment itself.

    Spaces of Gymnasium are read exactly: order of a ``Dict``, first number of a choice, dtype and shape come back in a
    dream (:func:`observation_spec`, :func:`action_spec`). Images have the ``image_size``; observations,
    actions and rewards of float64 become float32; ``is_init`` marks the first step of an episode. At a done step the
    observation the episode ended in stands under ``("next", key)``, and the root of the following step is the next
    episode's first observation.

    Atari follows Gymnasium's ``AtariPreprocessing``: up to 30 no-ops at reset, the maximum over the last two frames of
    each action, area interpolation, colour kept. A game that ends in the middle of a repeated action keeps the image
    of the frames seen so far. MinAtar's pixels are its board with one colour a plane, enlarged by a whole factor into
    the middle of the image.

    Args:
        env: see the table and above. Any id in Gymnasium's registry works, also of packages you registered yourself.
        env_kwargs: arguments of the environment, such as ``{"is_slippery": False}``; for an id, a class or a function.
        num_envs: 1 gives an environment without batch dimension; N > 1 gives batch ``[N]``, stepped one after the
            other in this process (a world model is fed by few real steps; processes cost more than they bring).
        image_size: side of all images, in pixels, whatever their layout, alone or in a ``Dict``; ``None`` keeps the
            environment's own size. ``"usual"`` is 64 for what is rendered here and for an observation that is one
            colour image, as in the papers, and the own size elsewhere. A TorchRL environment keeps its own always.
        action_repeat: real steps per action, rewards summed. Defaults to 4 for Atari, 2 for dm_control, 1 elsewhere.
        from_pixels: show rendered images in place of the environment's own observation.
        sticky_actions: probability that Atari or MinAtar repeats the previous action in place of the new one. ``None``
            keeps the environment's own (0.25 for ``ALE/*-v5``, 0.1 for MinAtar); Atari 100k uses 0.
        seed: seeds the environments; row i of a batch gets its own seed.
        max_episode_steps: truncate episodes after this many actions, on top of the environment's own limit. Adds the
            key ``step_count``.
        device: where observations are put.
        **unknown: nothing; a name that is none of these is refused with the place where it goes.

    Raises:
        UnknownEnvironmentError: no such id.
        SpaceError: a space cannot be modelled; it names the entry and the wrapper that mends it.
        TypeError: for something that is no environment and makes none, or arguments that go into ``env_kwargs``.
        MissingExtraError: the package behind the id is not installed.
        ValueError: for a count below 1, or an option where there is no such thing.
    """
    if unknown:
        raise TypeError(
            f"make_env has no arguments {', '.join(unknown)}. Those of the environment go into env_kwargs={unknown!r}; "
            f"or pass an environment object that you built with them."
        )
    counts = {
        "num_envs": num_envs,
        "image_size": USUAL_IMAGE if image_size == "usual" else image_size,
        "action_repeat": action_repeat,
        "max_episode_steps": max_episode_steps,
    }
    for name, count in counts.items():
        if count is not None:
            whole(name, count, 1, "at least 1")
    seed, device = seed_or_none(seed), device_named(device)
    resizes_all, size = image_size != "usual", counts["image_size"]
    options = Options(size, resizes_all, action_repeat, from_pixels, sticky_actions, device, dict(env_kwargs or {}))
    build = by_id(env, options) if isinstance(env, str) else _by_object(env, options, num_envs)
    base = build() if num_envs == 1 else SerialEnv(num_envs, build)
    made = TransformedEnv(base, Compose(*_transforms(base, max_episode_steps)), auto_unwrap=False)
    if seed is not None:
        made.set_seed(seed)
    given = {
        "env_kwargs": env_kwargs, "image_size": image_size, "action_repeat": action_repeat, "from_pixels": from_pixels,
        "sticky_actions": sticky_actions, "max_episode_steps": max_episode_steps, "device": device,
    }  # fmt: skip
    spec = getattr(env, "spec", None)
    source = env if isinstance(env, str) or not is_environment(env) else spec and functools.partial(_respawned, spec)
    maker = None if source is None else functools.partial(make_env, source, **given)
    object.__setattr__(made, "_maker", maker)  # as a plain attribute, which no wrapped environment is asked for
    return made


def maker_of(env: Any) -> Callable[[], TransformedEnv]:
    """What makes fresh environments like one: without batch dimension, each by itself.

    Args:
        env: an id, a class or function (see :func:`make_env`), an environment that :func:`make_env` made of one of
            these, or one of Gymnasium that knows its ``spec``.

    Raises:
        TypeError: for an environment that cannot be made again.
    """
    if isinstance(env, TransformedEnv) and env.__dict__.get("_maker") is not None:
        return env.__dict__["_maker"]
    if not is_environment(env):
        return functools.partial(make_env, env)
    made = make_env(env).__dict__["_maker"]
    if made is None:
        raise TypeError(
            f"training needs several environments, and {type(env).__name__} cannot be made again from itself: pass its "
            f"id, or a class or function that makes it."
        )
    return made


class EnvironmentOrigin(NamedTuple):
    """What an environment was made of, in plain JSON.

    Attributes:
        id: its id.
        options: the arguments of :func:`make_env` by which another one like it is made.
    """

    id: str
    options: dict[str, Any]


def origin_of(env: TransformedEnv) -> EnvironmentOrigin | None:
    """The id and the options of an environment that :func:`make_env` made.

    Args:
        env: the environment.

    Returns:
        ``None`` where it was not made of an id, or by arguments that are no plain JSON.
    """
    maker = env.__dict__.get("_maker")
    if maker is None or not isinstance(maker.args[0], str):
        return None
    options = {name: value for name, value in maker.keywords.items() if name != "device"}
    options["env_kwargs"] = dict(options["env_kwargs"] or {})
    try:
        return EnvironmentOrigin(maker.args[0], json.loads(json.dumps(options, allow_nan=False)))
    except (TypeError, ValueError):
        return None


def _respawned(spec: Any) -> Any:
    import gymnasium

    return gymnasium.make(spec)


def _transforms(base: EnvBase, max_episode_steps: int | None) -> list[Any]:
    """What every environment is seen through: where episodes begin, floats, a limit of steps."""
    shown = set(base.observation_spec.keys())
    transforms: list[Any] = [] if "is_init" in shown else [InitTracker()]
    if any(spec.dtype == torch.float64 for spec in _leaf_specs(base)):
        transforms.append(DoubleToFloat())
    if max_episode_steps is not None:
        if "step_count" in shown:
            raise SpaceError(
                "max_episode_steps counts under 'step_count', and the environment shows an entry of that name: rename "
                "it (gymnasium.wrappers.TransformObservation), or limit episodes with gymnasium.wrappers.TimeLimit."
            )
        transforms.append(StepCounter(max_episode_steps))
    return transforms


def _by_object(env: Any, options: Options, num_envs: int) -> Callable[[], EnvBase]:
    """What wraps an environment object, or builds one by a class or function of the user's."""
    if options.sticky_actions is not None:
        raise ValueError("sticky_actions is for Atari and MinAtar ids; pass an id, or a wrapped environment.")
    if is_environment(env):
        if num_envs != 1 or options.kwargs:
            raise ValueError(
                f"a {type(env).__name__} is one environment, already built: num_envs and env_kwargs need a class or "
                f"function that makes one, or an id."
            )
        return lambda: around(env, options)
    if not callable(env):
        raise TypeError(
            f"make_env takes an id ('CartPole-v1'), an environment of Gymnasium or TorchRL, or a class or function "
            f"that makes one; got {type(env).__name__}."
        )

    def build() -> EnvBase:
        is_torchrl = isinstance(env, type) and issubclass(env, EnvBase)
        made = env(**(options.kwargs if is_torchrl else rendering(options)))
        if not is_environment(made):
            raise TypeError(
                f"{env!r} made {type(made).__name__}, which is no environment of Gymnasium or TorchRL: wrap it in one "
                f"of TorchRL's (torchrl.envs), or give it Gymnasium's spaces, reset and step."
            )
        return around(made, options)

    return build


def _leaf_specs(env: EnvBase) -> list[TensorSpec]:
    specs = (env.full_observation_spec, env.full_action_spec, env.full_reward_spec)
    return [leaf for spec in specs for leaf in spec.values(True, True)]
