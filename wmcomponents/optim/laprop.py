"""LaProp with adaptive gradient clipping: DreamerV3's optimiser."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from wmcomponents.optim.stepping import evaluated

foreach: Any = torch
"""Home of the operations on lists of tensors that torch's own optimisers use, but that torch does not export."""


class LaProp(Optimizer):
    r"""Adaptive gradient clipping, then RMS normalisation, then momentum, then the learning rate.

    .. math::
        g &\leftarrow g \,/\, \max(1, \|g\| / (c \max(p_{min}, \|w\|))) \\
        \nu &\leftarrow \beta_2 \nu + (1-\beta_2) g^2, \qquad u = g \,/\, (\sqrt{\nu / (1-\beta_2^t)} + \epsilon) \\
        m &\leftarrow \beta_1 m + (1-\beta_1) u, \qquad w \leftarrow w - \eta_t\, m / (1-\beta_1^t)

    The norms are of whole tensors, biases included. The momentum averages normalised gradients (LaProp, Ziyin et al.
    2020), not the other way round as in Adam. During the warm-up, step k (from 0) uses the rate eta * k / warmup, so
    that the first step moves nothing, as in the official code of DreamerV3 (Hafner et al. 2023/2025). Every parameter
    counts its own steps
    t: one whose gradient comes later starts then, warm-up included.

    Args:
        params: parameters or parameter groups.
        lr: learning rate eta.
        betas: (beta1, beta2) of momentum and RMS.
        eps: added outside the root.
        agc: c, the largest ratio of gradient norm to weight norm; ``None`` does not clip.
        pmin: floor of the weight norm, so that zero-initialised tensors can move.
        warmup: steps over which the rate grows linearly from 0.

    Raises:
        ValueError: if a hyper-parameter is out of range.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 4e-5,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-20,
        agc: float | None = 0.3,
        pmin: float = 1e-3,
        warmup: int = 1000,
    ) -> None:
        if lr < 0 or eps < 0 or pmin < 0 or warmup < 0:
            raise ValueError(f"lr, eps, pmin and warmup are at least 0; got {lr}, {eps}, {pmin}, {warmup}.")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas are in [0, 1); got {betas}.")
        if agc is not None and agc <= 0:
            raise ValueError(f"agc is a positive ratio, or None not to clip; got {agc}.")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "agc": agc, "pmin": pmin, "warmup": warmup})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        loss = evaluated(closure)
        for group in self.param_groups:
            ages: dict[float, list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    ages.setdefault(self._age(p), []).append(p)
            for params in ages.values():
                self._update(group, params)
        return loss

    def _age(self, p: Tensor) -> float:
        """Steps that a parameter has taken; its first call makes its state."""
        state = self.state[p]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float64)
            state["rms"], state["momentum"] = torch.zeros_like(p), torch.zeros_like(p)
        return state["step"].item()

    def _update(self, group: dict[str, Any], params: list[Tensor]) -> None:
        """Update parameters that have all taken the same number of steps."""
        beta1, beta2 = group["betas"]
        states = [self.state[p] for p in params]
        counts = [state["step"] for state in states]
        taken = counts[0].item()
        foreach._foreach_add_(counts, 1.0)
        rms, momentum = [state["rms"] for state in states], [state["momentum"] for state in states]
        grads = [p.grad for p in params]
        if group["agc"] is not None:
            grads = clipped(grads, params, group["agc"], group["pmin"])
        foreach._foreach_mul_(rms, beta2)
        foreach._foreach_addcmul_(rms, grads, grads, 1 - beta2)
        # u = g / (sqrt(nu / c) + eps) = sqrt(c) g / (sqrt(nu) + sqrt(c) eps): no pass is spent on the correction c.
        # A gradient that is exactly zero from the start has zero RMS: 0 / (0 + eps) = 0, as it should be.
        root = math.sqrt(1 - beta2 ** (taken + 1))
        scale = foreach._foreach_sqrt(rms)
        foreach._foreach_add_(scale, root * group["eps"])
        foreach._foreach_mul_(momentum, beta1)
        foreach._foreach_addcdiv_(momentum, grads, scale, value=(1 - beta1) * root)
        rate = group["lr"] * min(1.0, taken / group["warmup"]) if group["warmup"] else group["lr"]
        foreach._foreach_add_(params, momentum, alpha=-rate / (1 - beta1 ** (taken + 1)))


def clipped(grads: list[Any], params: list[Tensor], ratio: float, pmin: float) -> list[Tensor]:
    """Gradients of at most ``ratio`` times their weight's norm (adaptive gradient clipping, Brock et al. 2021).

    Args:
        grads: one gradient for each parameter.
        params: the parameters.
        ratio: largest ratio of the norms.
        pmin: floor of the weight's norm.
    """
    bounds = foreach._foreach_norm(params)
    bounds = foreach._foreach_clamp_min(bounds, pmin)
    foreach._foreach_mul_(bounds, ratio)
    factors = foreach._foreach_div(foreach._foreach_norm(grads), bounds)
    return list(foreach._foreach_div(grads, foreach._foreach_clamp_min(factors, 1.0)))
