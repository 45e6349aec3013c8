"""The differentiable sibling of the simulator: a fixed-length rollout of a policy inside a world model."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Composite

from wmcomponents._arguments import whole
from wmcomponents.dream.checks import layout_of, told
from wmcomponents.dream.uncertainty import UNCERTAINTY, Uncertainty
from wmcomponents.nn.mode import EvalMode
from wmcomponents.world_model import Noise, State, WorldModel, items_of

Policy = Callable[[State], Tensor]
"""a_t from s_t: reads the model's state keys, returns the action as ``action_spec`` says."""


class Rollout(NamedTuple):
    """An imagined trajectory, time after the batch dims.

    Attributes:
        states: s_0..s_T, ``[*B, T + 1, ...]`` each.
        actions: a_0..a_{T-1}, ``[*B, T, ...]``.
        rewards: r_1..r_T, ``[*B, T, 1]``; ``None`` where the model has none.
        conts: P(not terminated)_1.._T, ``[*B, T, 1]``; ``None`` where the model does not predict it.
    """

    states: State
    actions: Tensor
    rewards: Tensor | None
    conts: Tensor | None


def imagine(
    model: WorldModel,
    policy: Policy,
    start: State | TensorDictBase,
    horizon: int,
    *,
    noise: Noise | None = None,
    generator: torch.Generator | None = None,
    scan: Callable[..., Rollout] | None = None,
    uncertainty: Uncertainty | None = None,
) -> TensorDict:
    """Roll a policy out in a world model, with gradients.

    Args:
        model: the world model; run in eval mode, and left in its own.
        policy: maps the state (a dict of tensors ``[*B, ...]``) to an action. See :func:`latent_policy` for a policy
            that reads features, and :func:`tensordict_policy` for one that is a TensorDict module.
        start: s_0, ``[*B, ...]``; a dict or a TensorDict with the model's state keys. Any leading dims.
        horizon: number of steps T.
        noise: z of every step, ``[T, *B, ...]`` each; drawn from ``generator`` if not given. Passing the same noise
            twice repeats the dream (common random numbers). With neither noise nor generator, every step takes the
            mode.
        generator: draws the noise.
        scan: replaces :func:`rollout`, for example by the result of :func:`compiled_rollout`.
        uncertainty: what is measured of every step, and what becomes of its ``reward``; where it halts, ``continue`` is
            0. Measured of all steps at once, after the scan.

    Returns:
        A TensorDict ``[*B, T]`` in TorchRL's layout: the state keys and ``action`` at index t; under ``next`` the
        state, ``reward`` and ``continue`` (where the model has them), ``uncertainty`` (where it is measured). States at
        t and under ``next`` at t - 1 are one tensor.

    Raises:
        CapabilityError: if the model cannot tell the uncertainty that is asked for.
        KeyError: if ``start`` lacks a key of the model's state.
        ValueError: if ``horizon`` is below 1, or the noise is not one for each step.
    """
    horizon = whole("horizon", horizon, 1, "a number of imagined steps, at least 1")
    if not callable(policy):
        raise TypeError(
            f"policy is a function from the state, a dict of tensors, to an action, such as latent_policy(model, net); "
            f"got {policy!r}."
        )
    if uncertainty is not None:
        uncertainty.check(model)
    state, batch = _situation(model, start)
    if noise is None and generator is not None:
        noise = model.noise_source("imagine")((horizon, *batch), generator, next(iter(state.values())).device)
    elif noise is not None:
        _check_noise(model, noise, (horizon, *batch))
    with EvalMode(model):
        states, actions, rewards, conts = (scan or rollout)(model, policy, state, horizon, noise)
    time = len(batch)
    root: State = {key: value.narrow(time, 0, horizon) for key, value in states.items()}
    following: State = {key: value.narrow(time, 1, horizon) for key, value in states.items()}
    unknown = None
    if uncertainty is not None:
        unknown, rewards, conts = uncertainty.judged_dream(model, root, actions, rewards, conts)
    told = {"reward": rewards, "continue": conts, UNCERTAINTY: unknown}
    following.update({key: value for key, value in told.items() if value is not None})
    shape = (*batch, horizon)
    arrived = TensorDict(cast(Any, following), batch_size=shape)
    return TensorDict({**root, "action": actions, "next": arrived}, batch_size=shape)


def rollout(model: WorldModel, policy: Policy, state: State, horizon: int, noise: Noise | None) -> Rollout:
    """The scan behind :func:`imagine`: plain tensors, fixed length, no branch on data; compiles as one graph.

    Args:
        model: the world model.
        policy: gives a_t from s_t.
        state: s_0, ``[*B, ...]``.
        horizon: T.
        noise: z of every step, ``[T, *B, ...]`` each; ``None`` takes modes.
    """
    key, leaf = next(iter(model.state_spec.items()))
    time = state[cast(str, key)].ndim - leaf.ndim
    states, actions, rewards, conts = [state], [], [], []
    steps = None if noise is None else {key: value.unbind(0) for key, value in noise.items()}
    for t in range(horizon):
        action = policy(state)
        state, reward, cont = model.imagine(
            state, action, None if steps is None else {key: value[t] for key, value in steps.items()}
        )
        states.append(state)
        actions.append(action)
        rewards.append(reward)
        conts.append(cont)
    return Rollout(
        {key: torch.stack([s[key] for s in states], time) for key in state},
        torch.stack(actions, time),
        None if rewards[0] is None else torch.stack(rewards, time),
        None if conts[0] is None else torch.stack(conts, time),
    )


class Passed(NamedTuple):
    """What a trajectory leaves whose states are not kept, time after the batch dims.

    Attributes:
        last: s_T, ``[*B, ...]`` each.
        rewards: r_1..r_T, ``[*B, T, 1]``; ``None`` where the model has none.
        conts: P(not terminated)_1.._T, ``[*B, T, 1]``; ``None`` where the model does not predict it.
    """

    last: State
    rewards: Tensor | None
    conts: Tensor | None


def passed_through(model: WorldModel, policy: Policy, state: State, horizon: int, noise: Noise | None) -> Passed:
    """:func:`rollout` for whoever keeps of each state what it needs when it acts there.

    Where no gradient is recorded, each state is given away to the next step: a transformer's cache is written in place.

    Args:
        model: the world model.
        policy: gives a_t from s_t, and must keep no view of it.
        state: s_0, ``[*B, ...]``; left as it is.
        horizon: T.
        noise: z of every step, ``[T, *B, ...]`` each; ``None`` takes modes.
    """
    key, leaf = next(iter(model.state_spec.items()))
    time = state[cast(str, key)].ndim - leaf.ndim
    rewards, conts = [], []
    step = model.imagine
    for t in range(horizon):
        action = policy(state)
        state, reward, cont = step(state, action, None if noise is None else {k: v[t] for k, v in noise.items()})
        rewards.append(reward)
        conts.append(cont)
        step = model.imagine if torch.is_grad_enabled() else model.imagine_inplace
    return Passed(
        state,
        None if rewards[0] is None else torch.stack(rewards, time),
        None if conts[0] is None else torch.stack(conts, time),
    )


def compiled_rollout(**options: Any) -> Callable[..., Rollout]:
    """:func:`rollout` compiled as a whole, which is what pays (compiling a single step does not).

    The compiled function specialises on model, policy, horizon and shapes: keep the result, and the policy, and reuse
    them.

    Args:
        **options: of ``torch.compile``; ``fullgraph=True`` and ``dynamic=False`` unless given. For a small model on a
            CPU, ``options={"cpp_wrapper": True}`` saves a further third, for several times the compile time.
    """
    return torch.compile(rollout, **{"fullgraph": True, "dynamic": False, **options})


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

    It reads the state keys ``[*B, ...]``, and ``latent`` ``[*B, F]`` where the model offers features, and writes
    ``action``.
    """
    with_features = "features" in model.capabilities

    def act(state: State) -> Tensor:
        tensordict = TensorDict(dict(state), batch_size=_situation(model, state)[1])
        if with_features:
            tensordict["latent"] = model.features(state)
        return policy(tensordict)["action"]

    return act


def _situation(model: WorldModel, start: State | TensorDictBase) -> tuple[State, torch.Size]:
    """The model's state out of a bigger collection of tensors, and its batch size."""
    state: State = {}
    batch = torch.Size()
    # One pass: iterating over a spec is slow.
    for key, leaf in model.state_spec.items():
        value = cast("Tensor | None", start.get(cast(Any, key), None))
        if value is None:
            missing = [key for key in model.state_spec.keys() if key not in start.keys()]
            raise KeyError(
                f"the start state lacks {missing}; a {type(model).__name__} has {list(model.state_spec.keys())}."
            )
        state[cast(str, key)] = cast(Tensor, value)
        batch = value.shape[: value.ndim - leaf.ndim]
    return state, batch


def _check_noise(model: WorldModel, noise: Noise, lead: tuple[int, ...]) -> None:
    spec = cast(Composite, model.noise_spec["imagine"])
    expected = {key: ((*lead, *leaf.shape), leaf.dtype) for key, leaf in items_of(spec)}
    if layout_of(noise) != expected:
        raise ValueError(f"the noise of these steps is {told(expected)} (time first); got {told(layout_of(noise))}.")
