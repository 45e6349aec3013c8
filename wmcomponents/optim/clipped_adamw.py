"""AdamW behind gradient clipping, with a decay for weights of linear maps alone."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW

from wmcomponents.optim.stepping import evaluated, warmed_up

DECAYED = (nn.Linear, nn.modules.conv._ConvNd)
"""Modules whose ``weight`` is shrunk. A recurrent cell's ``weight_*`` are too; biases, norms, tables are not."""


class ClippedAdamW(AdamW):
    """Clip the gradients of each group of parameters by its own norm, take AdamW's step at a rate that warms up.

    Args:
        params: parameters or parameter groups; a group may have its own ``lr``, ``weight_decay`` and ``max_norm``.
            Groups with the same ``clip``, a name, are clipped together.
        lr: learning rate.
        betas: averaging rates of the two moments.
        eps: added to the root of the second moment.
        weight_decay: share of a weight that a step takes away, times the rate.
        max_norm: largest norm of the gradient; ``None`` does not clip it.
        warmup: steps over which the rate grows linearly: step k (from 0) uses lr * min(1, k / warmup), so that the very
            first moves nothing but the moments.

    Raises:
        ValueError: if a hyper-parameter is out of range.

    Reference: Alonso et al., DIAMOND (2024), appendix.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-4,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        max_norm: float | None = None,
        warmup: int = 0,
    ) -> None:
        if warmup < 0:
            raise ValueError(f"warmup is at least 0; got {warmup}.")
        super().__init__(params, lr, betas, eps, weight_decay)
        for group in self.param_groups:
            group.setdefault("max_norm", max_norm)
            group.setdefault("clip", "all")
            group.setdefault("warmup", warmup)
            group.setdefault("age", 0)  # in the group, so that it is saved with the optimiser's state
            if group["max_norm"] is not None and not group["max_norm"] > 0:
                raise ValueError(f"max_norm is positive, or None not to clip; got {group['max_norm']}.")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Clip, and step every parameter that has a gradient."""
        loss = evaluated(closure)
        for name in dict.fromkeys(group["clip"] for group in self.param_groups):
            groups = [group for group in self.param_groups if group["clip"] == name]
            if groups[0]["max_norm"] is not None:
                moving = [p for group in groups for p in group["params"] if p.grad is not None]
                clip_grad_norm_(moving, groups[0]["max_norm"])
        with warmed_up(self, first=0):
            super().step()
        return loss


def decayed_names(module: nn.Module, kinds: tuple[type[nn.Module], ...] = DECAYED) -> set[str]:
    """Names of the parameters that a decay is meant for: weights of certain layers, and of recurrent ones.

    Args:
        module: whose parameters.
        kinds: the layers; linear and convolutional ones if not given.
    """
    names = set()
    for prefix, part in module.named_modules():
        for name, _ in part.named_parameters(recurse=False):
            if (name == "weight" and isinstance(part, kinds)) or name.startswith("weight_"):
                names.add(f"{prefix}.{name}" if prefix else name)
    return names
