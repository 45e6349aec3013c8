"""The specs of one observation and one action of an environment, with all that its spaces say."""

import sys
from typing import Any, cast

import numpy as np
from torchrl.data import Binary, Bounded, Categorical, Composite, OneHot, TensorSpec, Unbounded
from torchrl.envs import EnvBase, GymWrapper, SerialEnv, TransformedEnv
from torchrl.envs.batched_envs import BatchedEnvBase

from wmcomponents._extras import require
from wmcomponents.codecs.entry import SpaceError, spec_of, stands_for
from wmcomponents.codecs.gym_env import ExactGymWrapper
from wmcomponents.codecs.spaces import action_spec_from_space, is_space, observation_spec_from_space, remembered

# Written by transforms for bookkeeping: part of a TorchRL env's observation spec, not of what the environment shows.
BOOKKEEPING_KEYS = frozenset({"is_init", "step_count", "episode_reward", "traj_count", "action_mask"})


def observation_spec(env: Any) -> Composite:
    """The spec of ONE observation as the environment shows it: no batch dims, on CPU, without bookkeeping keys.

    An entry whose Gymnasium space says more than a spec can (a first number other than 0, double precision, the name
    ``state``, which TorchRL changes) remembers it, so that a dream shows the same space.

    Args:
        env: a TorchRL environment, or a Gymnasium one.

    Raises:
        SpaceError: if the space cannot be modelled, or TorchRL's ``GymWrapper`` misreads it; it says what to do.
    """
    if not isinstance(env, EnvBase):
        return specs_from(env)[0]
    gym, base = _gymnasium_of(env), _base_of(env)
    reals = {} if gym is None else _real_entries(gym, base)
    kept = {
        key: _entry(leaf, key, *reals[key], base) if key in reals else leaf for key, leaf in _shown(env, base).items()
    }
    # A transform that writes in place of an entry moves it to the end; the real order is part of the space.
    order = [key for key in reals if key in kept] + [key for key in kept if key not in reals]
    return Composite({key: kept[key] for key in order}, shape=())


def action_spec(env: Any) -> TensorSpec:
    """The spec of ONE action: no batch dims, on CPU.

    Args:
        env: a TorchRL environment, or a Gymnasium one.

    Raises:
        SpaceError: as :func:`observation_spec`.
    """
    if not isinstance(env, EnvBase):
        return specs_from(env)[1]
    gym = _gymnasium_of(env)
    if len(env.action_keys) != 1:
        if gym is not None:
            action_spec_from_space(gym.action_space)  # says it in the words of the space
        raise SpaceError(f"a model takes one action; the environment takes {env.action_keys}. Join them into one.")
    leaf = env.action_spec_unbatched.clone().to("cpu")
    if gym is None:
        return leaf
    action_spec_from_space(gym.action_space)  # refuses what cannot be modelled
    return _entry(leaf, "action", gym.action_space, None, _base_of(env))


def specs_from(source: Any, action: Any = None) -> tuple[Composite, TensorSpec]:
    """The specs of one observation and one action, from whatever tells them.

    Args:
        source: an environment (TorchRL's, Gymnasium's or a vector one), an observation space, or a spec.
        action: an action space or spec; ``None`` if ``source`` is an environment.

    Raises:
        SpaceError: if a space cannot be modelled.
        TypeError: if ``source`` is none of these.
    """
    if isinstance(source, TensorSpec) or is_space(source):
        return _told(source, action)
    if isinstance(source, EnvBase):
        return observation_spec(source), action_spec(source)
    if is_gymnasium(source):
        many = hasattr(source, "single_observation_space")
        spaces = [getattr(source, f"single_{name}" if many else name) for name in ("observation_space", "action_space")]
        return observation_spec_from_space(spaces[0]), action_spec_from_space(spaces[1])
    remedy = f" An id becomes an environment by make_env({source!r})." if isinstance(source, str) else ""
    raise TypeError(
        f"expected an environment, a Gymnasium space or a torchrl spec; got {type(source).__name__}.{remedy}"
    )


def _told(observed: Any, action: Any) -> tuple[Composite, TensorSpec]:
    """The specs of a space or spec of observations, and of one of actions."""
    if action is None:
        raise TypeError("observations are told, and the action is not: give the action's space or spec beside them.")
    observed = observation_spec_from_space(observed) if is_space(observed) else observed
    return cast(Composite, observed), action_spec_from_space(action) if is_space(action) else action


def is_environment(thing: Any) -> bool:
    """Whether something is an environment of TorchRL or Gymnasium, single or vectorised."""
    return isinstance(thing, EnvBase) or is_gymnasium(thing)


def is_gymnasium(thing: Any) -> bool:
    """Whether something is a Gymnasium environment, single or vectorised; asked without importing Gymnasium."""
    gymnasium = sys.modules.get("gymnasium")
    return gymnasium is not None and isinstance(thing, gymnasium.Env | gymnasium.vector.VectorEnv)


def _base_of(env: Any) -> Any:
    """The environment inside all transforms and serial batches; ``None`` where it lives in another process."""
    while True:
        if isinstance(env, TransformedEnv):
            env = env.base_env
        elif isinstance(env, SerialEnv):
            if env.is_closed:
                env.start()
            env = env._envs[0]
        else:
            return None if isinstance(env, BatchedEnvBase) else env


def _gymnasium_of(env: Any) -> Any:
    """The single Gymnasium environment that a TorchRL one wraps, or ``None``."""
    base = _base_of(env)
    inner = base._env if isinstance(base, GymWrapper) else None
    return inner if is_gymnasium(inner) and not hasattr(inner, "single_observation_space") else None


def _shown(env: Any, base: Any) -> dict[str, TensorSpec]:
    """The entries of an environment's observation on CPU, without what transforms write and the mask of actions."""
    own = set() if base is None else set(base.observation_spec.keys()) - {"is_init"}
    if not isinstance(base, GymWrapper):
        own -= {"action_mask"}  # which actions are legal is a rule; an entry of a Gymnasium space is shown all the same
    hidden = BOOKKEEPING_KEYS - own
    leaves = env.observation_spec_unbatched.items()
    return {cast(str, key): leaf.clone().to("cpu") for key, leaf in leaves if key not in hidden}


def _real_entries(gym: Any, base: Any) -> dict[Any, tuple[Any, str | None]]:
    """By key of the TorchRL environment: the real entry's space and name."""
    spaces = require("gymnasium.spaces", extra="gym")
    space = gym.observation_space
    observation_spec_from_space(space)  # refuses what cannot be modelled
    if not isinstance(space, spaces.Dict):
        return {next(iter(base.observation_spec.keys())): (space, None)}
    entries = dict(space.spaces)
    renames = not isinstance(base, ExactGymWrapper) and "observation" not in entries
    return {"observation" if renames and name == "state" else name: (entry, name) for name, entry in entries.items()}


def _entry(leaf: TensorSpec, key: str, space: Any, name: str | None, base: Any) -> TensorSpec:
    """An entry's spec as the environment shows it, after all transforms, with what the real space adds to it."""
    if not isinstance(base, ExactGymWrapper) and np.any(getattr(space, "start", 0)):
        raise SpaceError(
            f"{key!r} is {space}, and TorchRL's GymWrapper counts every choice from zero: it would take start for 0. "
            f"Pass the Gymnasium environment to make_env(env), which keeps its start."
        )
    if stands_for(leaf, space):
        return remembered(leaf, space, key, name)
    # TorchRL stacks choices of several axes into a spec of no kind; what a transform made is kept.
    is_plain = isinstance(leaf, Binary | Bounded | Categorical | OneHot | Unbounded)
    return leaf if is_plain else spec_of(space, f"{key!r}", name)
