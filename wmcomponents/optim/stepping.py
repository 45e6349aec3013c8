"""What the optimisers with a warm-up share."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch.optim import Optimizer


def evaluated(closure: Callable[[], float] | None) -> float | None:
    """The loss that a closure computes anew, with gradients; ``None`` without one."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


@contextlib.contextmanager
def warmed_up(optimizer: Optimizer, first: int) -> Iterator[None]:
    """Multiply each group's rate by ``min(1, age / warmup)`` for one step, and count the age of those that move.

    Args:
        optimizer: whose groups have ``warmup`` and ``age``.
        first: the age of the first step: 1 for a rate above 0, or 0.
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        if group["warmup"]:
            group["lr"] *= min(1.0, (group["age"] + first) / group["warmup"])
        # A part that is trained behind another is stepped by itself.
        group["age"] += any(p.grad is not None for p in group["params"])
    try:
        yield
    finally:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
