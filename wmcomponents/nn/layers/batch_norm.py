"""Batch normalisation by the statistics of the global batch, where it is spread over processes."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from wmcomponents._global_batch import is_spread


class BatchNorm1d(nn.BatchNorm1d):
    """torch's, but for a batch that several processes share: mean and variance are those of all of it.

    ``torch.nn.SyncBatchNorm`` does the same on accelerators alone.
    """

    def forward(self, input: Tensor) -> Tensor:
        """``[N, C]`` or ``[N, C, L]``, normalised."""
        return _normalized(self, input) if self.training and is_spread() else super().forward(input)


class BatchNorm2d(nn.BatchNorm2d):
    """See :class:`BatchNorm1d`."""

    def forward(self, input: Tensor) -> Tensor:
        """``[N, C, H, W]``, normalised."""
        return _normalized(self, input) if self.training and is_spread() else super().forward(input)


class _MeanOfAll(torch.autograd.Function):
    """The mean of a tensor over all processes; each one's gradient is the mean of all gradients of that mean."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _mean(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _mean(grad)


def _mean(x: Tensor) -> Tensor:
    total = x.contiguous().clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def _normalized(norm: nn.BatchNorm1d | nn.BatchNorm2d, x: Tensor) -> Tensor:
    dims = [dim for dim in range(x.ndim) if dim != 1]
    shape = [1, -1, *(1,) * (x.ndim - 2)]
    moments = torch.stack([x.mean(dims), x.square().mean(dims)])
    mean, square = _MeanOfAll.apply(moments).unbind(0)  # pyright: ignore[reportGeneralTypeIssues, reportOptionalMemberAccess]
    variance = square - mean.square()
    if norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None:
        with torch.no_grad():
            norm.num_batches_tracked.add_(1)
            share = 1.0 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
            count = x.numel() // x.shape[1] * dist.get_world_size()
            norm.running_mean.lerp_(mean.detach().to(norm.running_mean.dtype), share)
            norm.running_var.lerp_((variance * (count / (count - 1))).detach().to(norm.running_var.dtype), share)
    y = (x - mean.reshape(shape)) * torch.rsqrt(variance.clamp_min(0.0) + norm.eps).reshape(shape)
    if norm.weight is None:
        return y
    return y * norm.weight.reshape(shape) + norm.bias.reshape(shape)
