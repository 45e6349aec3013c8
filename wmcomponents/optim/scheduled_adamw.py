"""AdamW whose rate and decay follow schedules of the steps it has taken."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW

from wmcomponents.optim.stepping import evaluated


class ScheduledAdamW(AdamW):
    """AdamW with a learning rate and a weight decay for each step, behind gradient clipping.

    A group's own ``lr`` and ``weight_decay`` are factors on the schedules; a group without decay has 0. Each group
    keeps how many steps it has ``taken``.

    Args:
        params: parameters or parameter groups. Groups with the same ``clip``, a name, are clipped together.
        lr: learning rate of step k, from 1; or one for all steps.
        weight_decay: likewise, the share of a weight that a step takes away, times the rate.
        betas: averaging rates of the two moments.
        max_norm: largest norm of the gradient of the groups of a name; ``None`` does not clip.
        clip_after: steps that are taken before gradients are clipped.

    Raises:
        ValueError: if a number is out of range.

    Reference: Assran et al., I-JEPA (2023); Bardes et al., V-JEPA (2024).
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: Callable[[int], float] | float,
        weight_decay: Callable[[int], float] | float = 0.04,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        max_norm: float | None = None,
        clip_after: int = 0,
    ) -> None:
        if (max_norm is not None and not max_norm > 0) or clip_after < 0:
            raise ValueError(f"max_norm is positive or None, clip_after at least 0; got {max_norm}, {clip_after}.")
        super().__init__(params, 1.0, betas, weight_decay=1.0)
        self.rate, self.decay = _schedule(lr), _schedule(weight_decay)
        self.max_norm, self.clip_after = max_norm, clip_after
        for group in self.param_groups:
            group.setdefault("clip", "all")
            group.setdefault("taken", 0)  # in the group, so that it is saved with the optimiser's state

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Clip, and step every parameter that has a gradient at the schedules' numbers."""
        loss = evaluated(closure)
        if self.max_norm is not None and self.param_groups[0]["taken"] >= self.clip_after:
            for name in dict.fromkeys(group["clip"] for group in self.param_groups):
                groups = [group for group in self.param_groups if group["clip"] == name]
                clip_grad_norm_([p for group in groups for p in group["params"] if p.grad is not None], self.max_norm)
        factors = [(group["lr"], group["weight_decay"]) for group in self.param_groups]
        for group, (rate, decay) in zip(self.param_groups, factors, strict=True):
            group["taken"] += 1
            group["lr"], group["weight_decay"] = rate * self.rate(group["taken"]), decay * self.decay(group["taken"])
        super().step()
        for group, (rate, decay) in zip(self.param_groups, factors, strict=True):
            group["lr"], group["weight_decay"] = rate, decay
        return loss


def decay_groups(named: Iterable[tuple[str, Tensor]], clip: str = "all") -> list[dict[str, Any]]:
    """Parameters in two groups: those that decay, and vectors and biases, which do not.

    Args:
        named: such as ``module.named_parameters()``; those without a gradient are left out.
        clip: name of the groups that are clipped together.

    Reference: the codes of MAE, I-JEPA and V-JEPA.
    """
    shrunk: list[Tensor] = []
    spared: list[Tensor] = []
    for name, parameter in named:
        if parameter.requires_grad:
            (spared if parameter.ndim < 2 or name.endswith("bias") else shrunk).append(parameter)
    return [{"params": shrunk, "clip": clip}, {"params": spared, "weight_decay": 0.0, "clip": clip}]


def _schedule(value: Callable[[int], float] | float) -> Callable[[int], float]:
    return value if callable(value) else lambda step: value
