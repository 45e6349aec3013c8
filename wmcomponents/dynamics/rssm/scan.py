"""Filtering a whole sequence with a backward pass written by hand.

Autograd records some fifty small operations a time step, and adds up one weight gradient a step. Here a step runs
without being recorded, on buffers that hold all steps; the backward pass visits the steps in reverse, reuses what the
forward pass left in cache-sized pieces, and takes the gradient of each weight once, from all steps.

A part that can be unrolled so offers a scan of itself (:meth:`Cell.scan`, :meth:`Posterior.scan`, :meth:`Latent.scan`).
A scan takes hold of its parameters when it is made: by the time of the backward pass, a functional call may have put
others in their place.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from wmcomponents.nn import Dense, RMSNorm

Gradients = dict[Tensor, Tensor]


class CellScan(ABC):
    """A recurrent cell unrolled over time, on buffers given at construction: ``deter`` and ``stoch`` in, ``out`` out.

    Attributes:
        prepared_grad: after the last backward step, the gradient of what the cell prepared from the actions.
    """

    prepared_grad: Tensor

    @abstractmethod
    def forward(self, t: int) -> None:
        """Read ``deter[t]`` and ``stoch[t]``, write ``out[t]``."""

    @abstractmethod
    def rewind(self) -> None:
        """Between the last forward and the first backward step: make room for gradients."""

    @abstractmethod
    def backward(self, t: int, grad: Tensor) -> tuple[Tensor, Tensor]:
        """From the gradient of ``out[t]``, new tensors with those of ``deter[t]`` and ``stoch[t]``."""

    @abstractmethod
    def finish(self) -> Gradients:
        """After the last backward step: gradients of the parameters, from all steps at once."""


class PosteriorScan(ABC):
    """A posterior unrolled over time, on buffers given at construction: ``deter`` in, ``raw`` out.

    Attributes:
        prepared_grad: after the last backward step, the gradient of what the posterior prepared from the embeddings.
    """

    prepared_grad: Tensor

    @abstractmethod
    def forward(self, t: int) -> None:
        """Read ``deter[t]``, write ``raw[t]``."""

    @abstractmethod
    def rewind(self) -> None:
        """Between the last forward and the first backward step: make room for gradients."""

    @abstractmethod
    def backward(self, t: int, grad: Tensor, deter_grad: Tensor) -> Tensor:
        """From the gradient of ``raw[t]``, the sum of that of ``deter[t]`` and ``deter_grad``, as a new tensor."""

    @abstractmethod
    def finish(self) -> Gradients:
        """After the last backward step: gradients of the parameters, from all steps at once."""


class LatentScan(ABC):
    """A latent unrolled over time, on buffers given at construction: ``raw`` in, flat ``stoch`` out."""

    @abstractmethod
    def forward(self, t: int) -> None:
        """Read ``raw[t]``, write ``stoch[t]``."""

    @abstractmethod
    def rewind(self) -> None:
        """Between the last forward and the first backward step: make room for gradients."""

    @abstractmethod
    def backward(self, t: int, grad: Tensor, raw_grad: Tensor) -> Tensor:
        """From the gradient of ``stoch[t]``, the sum of that of ``raw[t]`` and ``raw_grad``, as a new tensor."""


class NormAct:
    """``silu(rms_norm(x))`` unrolled over time.

    Attributes:
        post: activations of all steps, ``[T, B, *groups, U]``.
        pre_grad: after the backward steps, gradient of all inputs.
        post_grad: where :meth:`backward` reads the gradient of one step's activations, ``[B, *groups, U]``.

    Args:
        like: a tensor of the dtype and device to use.
        shape: ``[T, B, *groups, U]``.
        norms: one normalisation, or one for each group.
    """

    def __init__(self, like: Tensor, shape: Sequence[int], *norms: nn.Module) -> None:
        self.unit, self.scaled, self.post = (like.new_empty(shape) for _ in range(3))
        self.inverse = like.new_empty(*shape[:-1], 1)
        self.weights = [cast(Tensor, norm.weight) for norm in norms]
        self.weight = torch.stack([weight.detach() for weight in self.weights]).view(shape[2:])
        self.eps, self.share = like.new_full((), cast(RMSNorm, norms[0]).eps), 1.0 / shape[-1]
        tensors = (self.unit, self.scaled, self.post, self.inverse)
        self.steps = list(zip(*(tensor.unbind() for tensor in tensors), strict=True))

    def forward(self, t: int, pre: Tensor) -> Tensor:
        """Read the input of one step, ``[B, *groups, U]``; write and return ``post[t]``."""
        unit, scaled, post, inverse = self.steps[t]
        length = torch.linalg.vector_norm(pre, dim=-1, keepdim=True)
        torch.addcmul(self.eps, length, length, value=self.share, out=inverse).rsqrt_()
        torch.mul(torch.mul(pre, inverse, out=unit), self.weight, out=scaled)
        return torch.ops.aten.silu.out(scaled, out=post)

    def rewind(self) -> None:
        """Make room for gradients."""
        self.pre_grad, self.post_grad = torch.empty_like(self.unit), torch.empty_like(self.unit[0])
        self.weight_grad = torch.zeros_like(self.unit[0])
        self.pre_grads = self.pre_grad.unbind()

    def backward(self, t: int) -> Tensor:
        """Read ``post_grad``; write and return ``pre_grad[t]``."""
        unit, scaled, _, inverse = self.steps[t]
        grad = torch.ops.aten.silu_backward(self.post_grad, scaled)
        self.weight_grad.addcmul_(grad, unit)
        along = torch.linalg.vecdot(grad.mul_(self.weight), unit).unsqueeze(-1)
        return torch.mul(grad.addcmul_(unit, along, value=-self.share), inverse, out=self.pre_grads[t])

    def finish(self) -> Gradients:
        """Gradients of the normalisations' weights."""
        grads = self.weight_grad.sum(0).view(len(self.weights), -1)
        return dict(zip(self.weights, grads, strict=True))


def is_scannable(layer: nn.Module) -> bool:
    """Whether a layer is a :class:`Dense` whose normalisation and activation are those of :class:`NormAct`."""
    return isinstance(layer, Dense) and layer.linear.bias is not None and is_norm_act(layer.norm, layer.act)


def is_norm_act(norm: nn.Module, act: nn.Module) -> bool:
    """Whether normalisation and activation are those of :class:`NormAct`."""
    return isinstance(norm, RMSNorm) and isinstance(act, nn.SiLU)


def weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """Gradient of a linear layer's weight (out, in), from its inputs and output gradients of all steps."""
    return grad.flatten(0, -2).T @ x.flatten(0, -2)


def linear_gradients(weight: Tensor, bias: Tensor, x: Tensor, grad: Tensor) -> Gradients:
    """Gradients of a linear layer's parameters, from its inputs and output gradients of all steps."""
    return {weight: weight_gradient(x, grad), bias: grad.flatten(0, -2).sum(0)}


class _Filter(torch.autograd.Function):
    @staticmethod
    def forward(ctx, parts, deter, stoch, actions, embeds, is_init, noise, *parameters):
        cell, posterior, latent = parts
        steps, batch = is_init.shape[:2]
        deters, stochs = deter.new_empty(steps, batch, deter.shape[-1]), deter.new_empty(steps, batch, stoch.shape[-1])
        raws = deter.new_empty(steps, batch, latent.params)
        deter_in, stoch_in = torch.empty_like(deters), torch.empty_like(stochs)
        # The scans keep aliases: an output that its own backward node kept would never be freed.
        outputs = [buffer.detach() for buffer in (deters, stochs, raws)]
        cells = cell.scan(deter_in, stoch_in, actions, outputs[0])
        posteriors = posterior.scan(outputs[0], embeds, outputs[2])
        latents = latent.scan(outputs[2], noise, outputs[1])
        zero = deter.new_zeros(())
        masks, previous, following = (
            is_init.unbind(),
            zip(deter_in, stoch_in, strict=True),
            zip(*outputs[:2], strict=True),
        )
        for t, (mask, before, after) in enumerate(zip(masks, previous, following, strict=True)):
            torch.where(mask, zero, deter, out=before[0])
            torch.where(mask, zero, stoch, out=before[1])
            cells.forward(t)
            posteriors.forward(t)
            latents.forward(t)
            deter, stoch = after
        ctx.scans, ctx.is_init, ctx.parameters = (cells, posteriors, latents), is_init, parameters
        ctx.save_for_backward(deters, stochs, raws, *parameters)
        return deters, stochs, raws

    @staticmethod
    @once_differentiable
    def backward(ctx, deters_grad, stochs_grad, raws_grad):
        _ = ctx.saved_tensors  # raises if any of them was changed in place since the forward pass
        cells, posteriors, latents = ctx.scans
        for scan in ctx.scans:
            scan.rewind()
        deter_grad, stoch_grad = torch.zeros_like(deters_grad[0]), torch.zeros_like(stochs_grad[0])
        keep = ctx.is_init.logical_not().to(deter_grad.dtype)
        arrived = list(zip(deters_grad, stochs_grad, raws_grad, keep, strict=True))
        for t in reversed(range(len(arrived))):
            to_deter, to_stoch, to_raw, kept = arrived[t]
            raw_grad = latents.backward(t, stoch_grad.add_(to_stoch), to_raw)
            deter_grad = posteriors.backward(t, raw_grad, deter_grad.add_(to_deter))
            deter_grad, stoch_grad = cells.backward(t, deter_grad)
            deter_grad.mul_(kept)
            stoch_grad.mul_(kept)
        found = cells.finish() | posteriors.finish()
        inputs = (None, deter_grad, stoch_grad, cells.prepared_grad, posteriors.prepared_grad, None, None)
        return *inputs, *(found.get(parameter) for parameter in ctx.parameters)


def filter_scan(
    parts, deter: Tensor, stoch: Tensor, actions: Tensor, embeds: Tensor, is_init: Tensor, noise: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Filter T steps with a cell, a posterior and a latent that offer scans; everything is time-major.

    Args:
        parts: cell, posterior, latent.
        deter: before the first step, ``[B, D]``.
        stoch: before the first step, flat, ``[B, S]``.
        actions: what the cell prepared, ``[T, B, P]``.
        embeds: what the posterior prepared, ``[T, B, Q]``.
        is_init: bool ``[T, B, 1]``.
        noise: ``[T, B, *latent.noise_shape]``; None: the mode.

    Returns:
        deter ``[T, B, D]``, stoch ``[T, B, S]``, raw posterior ``[T, B, params]``.
    """
    parameters = [parameter for part in parts for parameter in part.parameters()]
    return _Filter.apply(parts, deter, stoch, actions, embeds, is_init, noise, *parameters)
