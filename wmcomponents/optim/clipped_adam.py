"""Adam behind gradient clipping, as most world-model papers train."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import Adam

from wmcomponents.optim.stepping import evaluated, warmed_up


class ClippedAdam(Adam):
    r"""Clip the gradient of all parameters, shrink the weights, take Adam's step.

    .. math::
        g \leftarrow g \min(1, c / \|g\|), \qquad w \leftarrow \text{Adam}((1 - d)\, w, g)

    The norm is that of all gradients of all groups together, or of those that have the same ``clip``. The decay is not
    multiplied with the learning rate (DreamerV2's official code: 1e-6 on every variable).

    Args:
        params: parameters or parameter groups; a group may have its own ``lr`` (TD-MPC2's encoder: 0.3 of the rest)
            and its own ``max_value`` (World Models: of M's gradients only). Groups with the same ``clip``, a name, are
            clipped together and apart from the others (TD-MPC2's policy).
        lr: learning rate.
        betas: averaging rates of the two moments.
        eps: added to the root of the second moment.
        max_norm: largest norm c of the whole gradient; ``None`` does not clip it.
        max_value: largest absolute value of each gradient element; ``None`` does not clip it.
        decay: share d of every weight that a step takes away.
        warmup: steps over which the rate grows linearly: step k (from 1) uses lr * min(1, k / warmup).

    Raises:
        ValueError: if a hyper-parameter is out of range.

    Reference: Hafner et al., PlaNet (2019; norm 1000), Dreamer (2020; 100), DreamerV2 (2021; 100, decay 1e-6); Hansen
    et al., TD-MPC2 (2024; 20); Ha & Schmidhuber, World Models (2018; values clipped at 1).
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 3e-4,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        max_norm: float | None = None,
        max_value: float | None = None,
        decay: float = 0.0,
        warmup: int = 0,
    ) -> None:
        for name, limit in (("max_norm", max_norm), ("max_value", max_value)):
            if limit is not None and not limit > 0:
                raise ValueError(f"{name} is positive, or None not to clip; got {limit}.")
        if not 0 <= decay < 1:
            raise ValueError(f"decay is a share in [0, 1); got {decay}.")
        if warmup < 0:
            raise ValueError(f"warmup is at least 0; got {warmup}.")
        super().__init__(params, lr, betas, eps)
        self.max_norm, self.max_value, self.decay = max_norm, max_value, decay
        for group in self.param_groups:
            group.setdefault("warmup", warmup)
            group.setdefault("clip", "all")
            group.setdefault("age", 0)  # in the group, so that it is saved with the optimiser's state

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Clip, shrink and step every parameter that has a gradient."""
        loss = evaluated(closure)
        moving = self._clipped()
        if self.decay:
            for p in moving:
                p.mul_(1.0 - self.decay)
        with warmed_up(self, first=1):
            super().step()
        return loss

    def _clipped(self) -> list[Tensor]:
        """The parameters that have a gradient, which is clipped by value, then by its norm in each ``clip`` group."""
        moving: list[Tensor] = []
        together: dict[str, list[Tensor]] = {}
        for group in self.param_groups:
            reached = [p for p in group["params"] if p.grad is not None]
            limit = group.get("max_value", self.max_value)
            if limit is not None and reached:
                clip_grad_value_(reached, limit)
            moving += reached
            together.setdefault(group["clip"], []).extend(reached)
        if self.max_norm is not None:
            for reached in together.values():
                clip_grad_norm_(reached, self.max_norm)
        return moving
