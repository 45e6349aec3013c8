"""A batch that is spread over processes: what is computed of the whole of it asks them all.

Outside of :func:`spread_over_processes` nothing is exchanged, and every function gives back what it was given.
"""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, _utils

_is_spread = False


@contextlib.contextmanager
def spread_over_processes(is_spread: bool = True) -> Iterator[None]:
    """Meanwhile the batch at hand is this process's share of a global one, of which every process has as many rows.

    All processes of torch's default group must do the same work meanwhile.

    Args:
        is_spread: whether it is; without effect otherwise.
    """
    global _is_spread
    before = _is_spread
    _is_spread = before or is_spread
    try:
        yield
    finally:
        _is_spread = before


def is_spread() -> bool:
    """Whether the batch at hand is a share of a global one."""
    return _is_spread


@torch.no_grad()
def global_sum(x: Tensor) -> Tensor:
    """The sum of a tensor ``[*S]`` over all processes, ``[*S]``; without gradient."""
    if not _is_spread:
        return x
    total = x.detach().clone()
    dist.all_reduce(total)
    return total


@torch.no_grad()
def global_mean(x: Tensor) -> Tensor:
    """The mean of a tensor ``[*S]`` over all processes, ``[*S]``; without gradient."""
    return global_sum(x) / dist.get_world_size() if _is_spread else x


@torch.no_grad()
def global_rows(x: Tensor) -> Tensor:
    """The rows ``[N, *S]`` of all processes, one process's after another's; each may have another number of them."""
    if not _is_spread:
        return x
    own = torch.tensor([len(x)])  # on the CPU: no accelerator is waited for
    counts = [torch.zeros_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, own)
    numbers = [int(count) for count in counts]
    is_bool = x.dtype == torch.bool
    rows = x.detach().to(torch.uint8) if is_bool else x.detach()
    padded = torch.cat([rows, rows.new_zeros(max(numbers) - len(rows), *rows.shape[1:])]).contiguous()
    parts = [torch.empty_like(padded) for _ in numbers]
    dist.all_gather(parts, padded)
    whole = torch.cat([part[:number] for part, number in zip(parts, numbers, strict=True)])
    return whole.bool() if is_bool else whole


@torch.no_grad()
def of_the_first(x: Tensor) -> Tensor:
    """The tensor ``[*S]`` of the first process, for what must be drawn alike in all."""
    if not _is_spread:
        return x
    drawn = x.detach().clone()
    dist.broadcast(drawn, 0)
    return drawn


@torch.no_grad()
def average_gradients(params: Iterable[Tensor]) -> None:
    """Replace gradients by their means over all processes; a parameter has one in all of them or in none.

    Args:
        params: the parameters.
    """
    if not _is_spread:
        return
    flatten: Any = _utils
    kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for param in params:
        if param.grad is not None:
            kinds.setdefault((param.grad.dtype, param.grad.device), []).append(param.grad)
    for grads in kinds.values():
        flat = flatten._flatten_dense_tensors(grads)
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        for grad, mean in zip(grads, flatten._unflatten_dense_tensors(flat, grads), strict=True):
            grad.copy_(mean)
