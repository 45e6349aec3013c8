"""What one stored step is: TorchRL's layout, observation at t beside what followed it under ``next``."""

import copy

import torch
from tensordict import NestedKey
from torchrl.data import Categorical, Composite, TensorSpec, Unbounded
from torchrl.envs import EnvBase

from wmcomponents.codecs import action_spec, observation_spec
from wmcomponents.codecs.image_layout import SMALLEST_IMAGE


def transition_spec(env: EnvBase) -> Composite:
    """The spec of one stored transition, without batch dims, on CPU.

    ``{*observation, is_init, action, next: {*observation, reward, terminated, truncated, done}}``: what happened at t,
    and under ``next`` what the action led to. The observation under ``next`` belongs to the same episode, also at its
    end. Where the environment shows which actions may be taken (``action_mask``), what held at t is stored too.
    """
    shown = observation_spec(env)
    flags = env.full_done_spec_unbatched
    following = {
        **_cloned(shown),
        "reward": env.reward_spec_unbatched.clone().to("cpu"),
        **{name: flags[name].clone().to("cpu") for name in ("terminated", "truncated", "done")},
    }
    everything = env.observation_spec_unbatched
    masks = {key: copy.deepcopy(everything[key]).to("cpu") for key in ("action_mask",) if key in everything.keys()}
    now = {
        **_cloned(shown),
        **masks,
        "is_init": env.observation_spec_unbatched["is_init"].clone().to("cpu"),
        "action": action_spec(env),
        "next": Composite(following, shape=()),
    }
    return Composite(now, shape=())


def recorded_spec(observation: Composite, action: TensorSpec) -> Composite:
    """The spec of one stored transition of what specs show and take, as :func:`transition_spec` of an environment.

    Args:
        observation: of one observation.
        action: of one action.
    """
    flag = Categorical(2, shape=torch.Size([1]), dtype=torch.bool)
    flags = {name: flag.clone() for name in ("terminated", "truncated", "done")}
    following = {**_cloned(observation), "reward": Unbounded(torch.Size([1])), **flags}
    return Composite(
        {
            **_cloned(observation),
            "is_init": flag.clone(),
            "action": copy.deepcopy(action),
            "next": Composite(following, shape=()),
        },
        shape=(),
    )


def transition_keys(env: EnvBase) -> list[NestedKey]:
    """The keys of :func:`transition_spec`, nested ones as tuples."""
    return list(transition_spec(env).keys(True, True))


def image_keys(spec: Composite) -> list[NestedKey]:
    """The observations of a transition worth keeping once: integer or boolean arrays of three axes, grey images."""
    now = [key for key in spec.keys(True, True) if key[0] != "next" and under_next(key) in spec.keys(True, True)]
    return [key for key in now if not spec[key].dtype.is_floating_point and _is_large(spec[key].shape)]


def under_next(key: NestedKey) -> NestedKey:
    """``key`` inside the ``next`` of a transition."""
    return ("next", key) if isinstance(key, str) else ("next", *key)


def _is_large(shape: torch.Size) -> bool:
    return len(shape) >= 3 or (len(shape) == 2 and min(shape) >= SMALLEST_IMAGE)


def _cloned(spec: Composite) -> dict:
    return {key: copy.deepcopy(leaf) for key, leaf in spec.items()}  # torchrl's clone forgets the real space
