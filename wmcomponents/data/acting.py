"""A policy in an environment: on one device and another, and beside a run that goes on as if it had not acted."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, cast

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torchrl.envs import TransformedEnv
from torchrl.envs.utils import ExplorationType, set_exploration_type

TensorDictPolicy = Callable[[TensorDictBase], TensorDictBase]


def acted(policy: TensorDictPolicy, shown: TensorDictBase) -> TensorDictBase:
    """What a policy answers, on the device of what it was shown, wherever its weights are.

    A simulator runs on the CPU and a world model on an accelerator: what the environment shows is moved there, and what
    the policy writes (its ``out_keys``) is moved back. On one device it is a plain call. A policy without weights and
    buffers acts where it is asked.

    Args:
        policy: writes ``action`` into the TensorDict that it is given.
        shown: what an environment shows, with what the policy carries.
    """
    there = _device_of(policy)
    if there is None:
        return policy(shown)
    here = _first(cast(Iterable[Tensor], shown.values(True, True)))
    if here is None or there == here:
        return policy(shown)
    answer = policy(cast(TensorDictBase, shown.to(there)))
    written = answer.select(*cast(Any, policy).out_keys, strict=False)
    return shown.update(written.to(here))


@contextlib.contextmanager
def acting_aside(make_env: Callable[[], TransformedEnv], policy: TensorDictPolicy) -> Iterator[TransformedEnv]:
    """A fresh environment, closed at the end, for a policy to act in without exploration.

    The generators of torch, NumPy and the policy are put back where they were: whoever looks at a run between two of
    its steps changes nothing of it.

    Args:
        make_env: makes the environment, as ``data.make_env`` does.
        policy: that will act; what it carries from step to step gets its place in the environment.
    """
    asked: Any = policy
    draws = asked.generator_state() if hasattr(asked, "generator_state") else None
    arrays = np.random.get_state()
    try:
        with torch.random.fork_rng(), contextlib.closing(make_env()) as env:
            if hasattr(asked, "make_tensordict_primer"):
                env.append_transform(asked.make_tensordict_primer())
            with set_exploration_type(ExplorationType.MODE):
                yield env
    finally:
        np.random.set_state(arrays)
        if draws is not None:
            asked.set_generator_state(draws)


def _device_of(policy: TensorDictPolicy) -> torch.device | None:
    return _first(chain(policy.parameters(), policy.buffers())) if isinstance(policy, nn.Module) else None


def _first(tensors: Iterable[Tensor]) -> torch.device | None:
    return next((one.device for one in tensors), None)
