"""What the scans of a filter's parts are, and what they share: see :mod:`wmcomponents.dynamics.rssm.filter_scan`.

A part that can be unrolled offers a scan of itself (:meth:`Cell.scan`, :meth:`Posterior.scan`, :meth:`Latent.scan`).
A scan takes hold of its parameters when it is made: by the time of the backward pass, a functional call may have put
others in their place.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from wmcomponents.nn import Dense, Float32RMSNorm

Gradients = dict[Tensor, Tensor]


class CellScan(ABC):
    """A recurrent cell unrolled over time, on buffers given at construction: ``deter`` and ``stoch`` in, ``out`` out.

    Attributes:
        prepared_grad: gradient of what the cell prepared from the actions; there after the last backward step.
    """

    prepared_grad: Tensor

    @abstractmethod
    def forward(self, t: int) -> None:
        """Read ``deter[t]`` and ``stoch[t]``, write ``out[t]``."""

    @abstractmethod
    def prepare_backward(self) -> None:
        """Between the last forward and the first backward step: make room for gradients."""

    @abstractmethod
    def backward(self, t: int, grad: Tensor) -> tuple[Tensor, Tensor]:
        """From the gradient ``[B, D]`` of ``out[t]``, those of ``deter[t]`` and ``stoch[t]``, as new tensors."""

    @abstractmethod
    def parameter_gradients(self) -> Gradients:
        """After the last backward step: gradients of the parameters, from all steps at once."""


class PosteriorScan(ABC):
    """A posterior unrolled over time, on buffers given at construction: ``deter`` in, ``raw`` out.

    Attributes:
        prepared_grad: gradient of what the posterior prepared from the embeddings; there after the last backward step.
    """

    prepared_grad: Tensor

    @abstractmethod
    def forward(self, t: int) -> None:
        """Read ``deter[t]``, write ``raw[t]``."""

    @abstractmethod
    def prepare_backward(self) -> None:
        """Between the last forward and the first backward step: make room for gradients."""

    @abstractmethod
    def backward(self, t: int, grad: Tensor, deter_grad: Tensor) -> Tensor:
        """The gradient of ``deter[t]``, ``[B, D]``, as a new tensor.

        It is ``deter_grad`` plus what follows from ``grad``, the gradient ``[B, params]`` of ``raw[t]``.
        """

    @abstractmethod
    def parameter_gradients(self) -> Gradients:
        """After the last backward step: gradients of the parameters, from all steps at once."""


class LatentScan(ABC):
    """A latent unrolled over time, on buffers given at construction: ``raw`` in, flat ``stoch`` out."""

    @abstractmethod
    def forward(self, t: int) -> None:
        """Read ``raw[t]``, write ``stoch[t]``."""

    @abstractmethod
    def prepare_backward(self) -> None:
        """Between the last forward and the first backward step: make room for gradients."""

    @abstractmethod
    def backward(self, t: int, grad: Tensor, raw_grad: Tensor) -> Tensor:
        """The gradient of ``raw[t]``, ``[B, params]``, as a new tensor.

        It is ``raw_grad`` plus what follows from ``grad``, the gradient ``[B, S]`` of ``stoch[t]``.
        """


class NormAct:
    """``silu(rms_norm(x))`` unrolled over time.

    Attributes:
        post: activations of all steps, ``[T, B, *groups, U]``.
        pre_grad: gradient of all inputs, after the backward steps.
        post_grad: gradient of one step's activations, which :meth:`backward` reads, ``[B, *groups, U]``.

    Args:
        like: a tensor of the dtype and device to use.
        shape: shape of all activations, ``[T, B, *groups, U]``.
        norms: one normalisation, or one for each group.
    """

    def __init__(self, like: Tensor, shape: Sequence[int], *norms: nn.Module) -> None:
        self.unit, self.scaled, self.post = (like.new_empty(shape) for _ in range(3))
        self.inverse = like.new_empty(*shape[:-1], 1)
        self.weights = [cast(Tensor, norm.weight) for norm in norms]
        self.weight = torch.stack([weight.detach() for weight in self.weights]).view(shape[2:])
        self.eps, self.share = like.new_full((), cast(Float32RMSNorm, norms[0]).eps), 1.0 / shape[-1]
        tensors = (self.unit, self.scaled, self.post, self.inverse)
        self.steps = list(zip(*(tensor.unbind() for tensor in tensors), strict=True))

    def forward(self, t: int, pre: Tensor) -> Tensor:
        """Read the input of one step, ``[B, *groups, U]``; write and return ``post[t]``."""
        unit, scaled, post, inverse = self.steps[t]
        length = torch.linalg.vector_norm(pre, dim=-1, keepdim=True)
        torch.addcmul(self.eps, length, length, value=self.share, out=inverse).rsqrt_()
        torch.mul(torch.mul(pre, inverse, out=unit), self.weight, out=scaled)
        return torch.ops.aten.silu.out(scaled, out=post)

    def prepare_backward(self) -> None:
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

    def parameter_gradients(self) -> Gradients:
        """Gradients of the normalisations' weights."""
        grads = self.weight_grad.sum(0).view(len(self.weights), -1)
        return dict(zip(self.weights, grads, strict=True))


def is_scannable(layer: nn.Module) -> bool:
    """Whether a layer is a :class:`Dense` whose normalisation and activation are those of :class:`NormAct`."""
    return isinstance(layer, Dense) and layer.linear.bias is not None and is_norm_act(layer.norm, layer.act)


def is_norm_act(norm: nn.Module, act: nn.Module) -> bool:
    """Whether normalisation and activation are those of :class:`NormAct`."""
    return isinstance(norm, Float32RMSNorm) and isinstance(act, nn.SiLU)


def weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """Gradient ``[O, I]`` of a linear layer's weight, from inputs ``[T, B, I]`` and output gradients ``[T, B, O]``."""
    return grad.flatten(0, -2).T @ x.flatten(0, -2)


def linear_gradients(weight: Tensor, bias: Tensor, x: Tensor, grad: Tensor) -> Gradients:
    """Gradients of a linear layer's parameters, from inputs ``[T, B, I]`` and output gradients ``[T, B, O]``."""
    return {weight: weight_gradient(x, grad), bias: grad.flatten(0, -2).sum(0)}
