"""A policy on one device and an environment on another."""

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, cast

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

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
    here = _first(cast(Iterable[Tensor], shown.values(True, True)))
    if there is None or here is None or there == here:
        return policy(shown)
    answer = policy(cast(TensorDictBase, shown.to(there)))
    written = answer.select(*cast(Any, policy).out_keys, strict=False)
    return shown.update(written.to(here))


def _device_of(policy: TensorDictPolicy) -> torch.device | None:
    return _first(chain(policy.parameters(), policy.buffers())) if isinstance(policy, nn.Module) else None


def _first(tensors: Iterable[Tensor]) -> torch.device | None:
    return next((one.device for one in tensors), None)
