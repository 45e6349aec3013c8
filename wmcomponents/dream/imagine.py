"""The differentiable sibling of the simulator: a fixed-length rollout of a policy inside a world model."""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from wmcomponents.world_model import Noise, State, WorldModel

Policy = Callable[[State], Tensor]
"""a_t from s_t: reads the model's state keys, returns the action as ``action_spec`` says."""


Rollout = tuple[Sequence[State], Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]
"""T + 1 states, T actions, T rewards and T continuations (the last two empty where the model has none)."""


def imagine(
    model: WorldModel,
    policy: Policy,
    start: State | TensorDictBase,
    horizon: int,
    *,
    noise: Noise | None = None,
    generator: torch.Generator | None = None,
    scan: Callable[..., Rollout] | None = None,
) -> TensorDict:
    """Roll a policy out in a world model, with gradients.

    Args:
        model: the world model.
        policy: maps the state (a dict of tensors ``[*B, ...]``) to an action. See :func:`latent_policy` for a policy that
            reads features or is a TensorDict module.
        start: s_0, ``[*B, ...]``; a dict or a TensorDict with the model's state keys. Any leading dims.
        horizon: number of steps T.
        noise: z of every step, ``[T, *B, ...]`` each; drawn from ``generator`` if not given. Passing the same noise twice
            repeats the dream (common random numbers). With neither noise nor generator, every step takes the mode.
        generator: draws the noise.
        scan: replaces :func:`rollout`, for example by the result of :func:`compiled_rollout`.

    Returns:
        A TensorDict ``[*B, T]`` in TorchRL's layout: the state keys and ``action`` at index t; under ``next`` the state,
        ``reward`` and ``continue`` (where the model has them).

    Raises:
        KeyError: if ``start`` lacks a key of the model's state.
        ValueError: if ``horizon`` is below 1.
    """
    if horizon < 1:
        raise ValueError(f"horizon counts imagined steps and is at least 1; got {horizon}.")
    missing = [key for key in model.state_spec.keys() if key not in start.keys()]
    if missing:
        raise KeyError(f"the start state lacks {missing}; {type(model).__name__} has the state {list(model.state_spec.keys())}.")
    state = {key: cast(Tensor, start[key]) for key in model.state_spec.keys()}
    key, leaf = next(iter(model.state_spec.items()))
    first = state[key]
    batch = first.shape[: first.ndim - leaf.ndim]
    if noise is None and generator is not None:
        noise = model.noise_source("imagine")((horizon, *batch), generator, first.device)
    states, actions, rewards, conts = (scan or rollout)(model, policy, state, horizon, noise)
    time = len(batch)
    stacked = {key: torch.stack([s[key] for s in states], time) for key in state}
    following: dict[str, Tensor] = {key: value.narrow(time, 1, horizon) for key, value in stacked.items()}
    if rewards:
        following["reward"] = torch.stack(rewards, time)
    if conts:
        following["continue"] = torch.stack(conts, time)
    shape = (*batch, horizon)
    return TensorDict(
        {
            **{key: value.narrow(time, 0, horizon) for key, value in stacked.items()},
            "action": torch.stack(actions, time),
            "next": TensorDict(following, batch_size=shape),
        },
        batch_size=shape,
    )


def rollout(model: WorldModel, policy: Policy, state: State, horizon: int, noise: Noise | None) -> Rollout:
    """The scan behind :func:`imagine`: plain tensors, fixed length, no branch on data; compiles as one graph."""
    states, actions, rewards, conts = [state], [], [], []
    steps = None if noise is None else {key: value.unbind(0) for key, value in noise.items()}
    for t in range(horizon):
        action = policy(state)
        state, reward, cont = model.imagine(
            state, action, None if steps is None else {key: value[t] for key, value in steps.items()}
        )
        states.append(state)
        actions.append(action)
        if reward is not None:
            rewards.append(reward)
        if cont is not None:
            conts.append(cont)
    return states, actions, rewards, conts


def compiled_rollout(**options: object) -> Callable[..., Rollout]:
    """:func:`rollout` compiled as a whole, which is what pays (compiling a single step does not).

    The compiled function specialises on model, policy, horizon and shapes: keep the result and reuse it.

    Args:
        **options: of ``torch.compile``; ``fullgraph=True`` and ``dynamic=False`` unless given.
    """
    return torch.compile(rollout, **{"fullgraph": True, "dynamic": False, **options})  # pyright: ignore[reportCallIssue, reportArgumentType]


def latent_policy(model: WorldModel, policy: Callable[[Tensor], Tensor]) -> Policy:
    """A policy over features, as a policy over states.

    Args:
        model: the world model whose ``features`` the policy reads.
        policy: maps features ``[*B, F]`` to an action.
    """
    model.require("features", driver="a latent policy", remedy="write features(), or use a policy over state keys.")
    return lambda state: policy(model.features(state))


def tensordict_policy(model: WorldModel, policy: Callable[[TensorDictBase], TensorDictBase]) -> Policy:
    """A TensorDict policy as a policy over states.

    It reads the state keys, and ``latent`` where the model offers features, and writes ``action``.
    """
    with_features = "features" in model.capabilities
    key, leaf = next(iter(model.state_spec.items()))

    def act(state: State) -> Tensor:
        batch = state[key].shape[: state[key].ndim - leaf.ndim]
        tensordict = TensorDict(dict(state), batch_size=batch)
        if with_features:
            tensordict["latent"] = model.features(state)
        return policy(tensordict)["action"]

    return act
