r"""Mish, on a CPU in pieces that stay in its cache.

torch computes :math:`x \tanh(\text{softplus}(x))` with three transcendental functions for each number. One is enough:
it is :math:`x - x r` with :math:`r = 1 / (1 + e^x + e^{2x} / 2)`, exact to the rounding of :math:`x`, and its slope is
:math:`1 - r + x r^2 (e^x + e^{2x})`. As whole tensors the steps of that would move as much memory as they save time, so
they are taken on one piece after the other.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

PIECE = 2**16
"""Numbers that each thread computes at once: a few buffers of so many fit into a core's cache."""

SATURATED = 20.0
"""From here on the slope is 1 in float32; the squares of much larger exponentials would overflow."""


def mish(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Mish of every number, with its gradient; where it pays, twice as fast on a CPU as torch's.

    Example:
        >>> x = torch.linspace(-8, 8, at_once() + 1)
        >>> torch.allclose(mish(x), F.mish(x), rtol=0, atol=1e-6)
        True

    Reference: Misra, Mish: A Self Regularized Non-Monotonic Activation Function (2019).
    """
    return _Mish.apply(x) if _pays(x) else F.mish(x)


def mish_(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Mish in place, in somewhat less time still; for tensors of which no gradient is recorded."""
    return _fill(x, x) if _pays(x) and x.is_contiguous() else F.mish(x, inplace=True)


def _pays(x: Tensor) -> bool:
    # The compiler, and vmap and its kin, need to see single operations.
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return False
    return x.device.type == "cpu" and x.dtype == torch.float32 and x.numel() >= at_once()


def at_once() -> int:
    """Numbers that all threads compute at once."""
    return PIECE * torch.get_num_threads()


class _Mish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return _fill(x, torch.empty_like(x, memory_format=torch.contiguous_format))

    @staticmethod
    def backward(ctx, grad):  # pyright: ignore[reportIncompatibleMethodOverride]
        (x,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to have a gradient
            share = torch.tanh(F.softplus(x))
            return grad * (share + x * (1.0 - share.square()) * torch.sigmoid(x))
        out, scratch = torch.empty_like(x, memory_format=torch.contiguous_format), x.new_empty(2, at_once())
        for piece, arrived, y in zip(_pieces(x), _pieces(grad), _pieces(out), strict=True):
            w, r = scratch[0, : len(piece)], scratch[1, : len(piece)]
            torch.clamp(piece, max=SATURATED, out=w).exp_()
            torch.addcmul(w, w, w, value=0.5, out=r).add_(1.0).reciprocal_()
            w.addcmul_(w, w).mul_(piece).mul_(r).sub_(1.0).mul_(r)  # the slope less 1
            torch.addcmul(arrived, arrived, w, out=y)
        return out


def _fill(x: Tensor, out: Tensor) -> Tensor:
    scratch = x.new_empty(at_once())
    for piece, y in zip(_pieces(x), _pieces(out), strict=True):
        w = torch.exp(piece, out=scratch[: len(piece)])
        w.addcmul_(w, w, value=0.5).add_(1.0)
        torch.addcdiv(piece, piece, w, value=-1.0, out=y)
    return out


def _pieces(x: Tensor) -> tuple[Tensor, ...]:
    return x.reshape(-1).split(at_once())
