r"""Mish, on a CPU in pieces that stay in its cache.

torch computes :math:`x \tanh(\text{softplus}(x))` with three transcendental functions for each number. One is enough:
with :math:`n = e^x (e^x + 2)` it is :math:`x\, n / (n + 2)`, to the same precision. As whole tensors the steps of that
would move as much memory as they save time, so they are taken on one piece after the other.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

PIECE = 2**16
"""Numbers that are computed at once: a few buffers of so many fit into a core's cache."""

SATURATED = 20.0
"""From here on Mish is the identity in float32, and larger exponentials would overflow."""


def mish(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Mish of every number, with its gradient; where it pays, twice as fast on a CPU as torch's.

    Example:
        >>> x = torch.linspace(-8, 8, 70_000)
        >>> torch.allclose(mish(x), F.mish(x), rtol=1e-6, atol=0)
        True

    Reference: Misra, Mish: A Self Regularized Non-Monotonic Activation Function (2019).
    """
    is_large = x.device.type == "cpu" and x.dtype == torch.float32 and x.numel() >= PIECE
    # The compiler, and vmap and its kin, need to see single operations.
    if not is_large or torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return F.mish(x)
    return _Mish.apply(x)


class _Mish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        out, scratch = torch.empty_like(x, memory_format=torch.contiguous_format), x.new_empty(PIECE)
        for piece, y in zip(_pieces(x), _pieces(out), strict=True):
            w = scratch[: len(piece)]
            torch.clamp(piece, max=SATURATED, out=w).exp_()
            torch.add(w, 2.0, out=y).mul_(w)  # n
            torch.add(y, 2.0, out=w)
            y.div_(w).mul_(piece)
        return out

    @staticmethod
    def backward(ctx, grad):  # pyright: ignore[reportIncompatibleMethodOverride]
        (x,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to have a gradient
            share = torch.tanh(F.softplus(x))
            return grad * (share + x * (1.0 - share.square()) * torch.sigmoid(x))
        # With p = exp(x) + 1 and r = 1 / (p p + 1) the slope is 1 + r (4 x (p - 1) p r - 2).
        out, scratch = torch.empty_like(x, memory_format=torch.contiguous_format), x.new_empty(2, PIECE)
        for piece, arrived, y in zip(_pieces(x), _pieces(grad), _pieces(out), strict=True):
            w, r = scratch[0, : len(piece)], scratch[1, : len(piece)]
            torch.clamp(piece, max=SATURATED, out=w).exp_()
            torch.add(w, 1.0, out=r)
            w.mul_(r).mul_(piece)
            r.square_().add_(1.0).reciprocal_()
            w.mul_(r).mul_(4.0).sub_(2.0).mul_(r).add_(1.0)
            torch.mul(w, arrived, out=y)
        return out


def _pieces(x: Tensor) -> tuple[Tensor, ...]:
    return x.reshape(-1).split(PIECE)
