"""The two distributions of a recurrent state-space model: before and after the observation."""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wmcomponents.dynamics.rssm.scan import (
    Gradients,
    NormAct,
    PosteriorScan,
    is_scannable,
    linear_gradients,
    weight_gradient,
)
from wmcomponents.nn import MLP, Norm, linear
from wmcomponents.nn.layers.activation import Activation


class Prior(nn.Module):
    """Raw parameters of p(stoch given deter): an MLP and a linear layer.

    Args:
        deter: size of the recurrent state.
        params: raw parameters of the latent.
        units: width of the MLP.
        layers: layers of the MLP.
        norm: normalisation.
        act: activation.
        outscale: factor on the initial weight of the output layer.
        bias: whether the layers before the output have biases.
    """

    def __init__(
        self,
        deter: int,
        params: int,
        units: int = 1024,
        layers: int = 2,
        norm: Norm = "rms",
        act: Activation = "silu",
        outscale: float = 1.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.mlp = MLP(deter, units, layers, norm, act, bias)
        self.out = linear(self.mlp.out_features, params, outscale)

    def forward(self, deter: Tensor) -> Tensor:
        """``[*B, deter]`` to ``[*B, params]``."""
        return self.out(self.mlp(deter))


class Posterior(nn.Module, ABC):
    """Raw parameters of q(stoch given deter, embed).

    A sequence calls :meth:`prepare` once for all its embeddings and :meth:`step` for each time step.
    """

    def scan(self, deter: Tensor, prepared: Tensor, raw: Tensor) -> PosteriorScan:
        """This posterior unrolled over time on the given buffers, ``[T, B, ...]``; asked only if :attr:`can_scan`."""
        raise NotImplementedError(f"{type(self).__name__} offers no scan.")

    @property
    def can_scan(self) -> bool:
        """Whether :meth:`scan` is there; a posterior without is differentiated by autograd."""
        return False

    @abstractmethod
    def prepare(self, embed: Tensor) -> Tensor:
        """The observation's part, ``[*B, E]`` to ``[*B, P]``."""

    @abstractmethod
    def step(self, deter: Tensor, prepared: Tensor) -> Tensor:
        """``[*B, deter]`` and ``[*B, P]`` to ``[*B, params]``."""

    def forward(self, deter: Tensor, embed: Tensor) -> Tensor:
        """``[*B, deter]`` and ``[*B, E]`` to ``[*B, params]``."""
        return self.step(deter, self.prepare(embed))


class RecurrentPosterior(Posterior):
    """The Dreamer papers' posterior: an MLP on (deter, embed).

    Args:
        deter: size of the recurrent state.
        embed: size of the observation's embedding.
        params: raw parameters of the latent.
        units: width of the MLP.
        layers: layers of the MLP, at least 1.
        norm: normalisation.
        act: activation.
        outscale: factor on the initial weight of the output layer.
        bias: whether the layers before the output have biases.

    Raises:
        ValueError: if there is no layer.
    """

    def __init__(
        self,
        deter: int,
        embed: int,
        params: int,
        units: int = 1024,
        layers: int = 1,
        norm: Norm = "rms",
        act: Activation = "silu",
        outscale: float = 1.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"The posterior needs at least one layer; got layers={layers}.")
        self.deter = deter
        self.mlp = MLP(deter + embed, units, layers, norm, act, bias)
        self.out = linear(self.mlp.out_features, params, outscale)

    @property
    def can_scan(self) -> bool:
        """Yes, with one layer, RMS normalisation and SiLU."""
        return len(self.mlp.layers) == 1 and is_scannable(self.mlp.layer(0))

    def scan(self, deter: Tensor, prepared: Tensor, raw: Tensor) -> PosteriorScan:
        """The posterior unrolled over time: ``deter [T, B, D]``, ``prepared [T, B, units]``, ``raw [T, B, params]``."""
        return _RecurrentPosteriorScan(self, deter, prepared, raw)

    def forward(self, deter: Tensor, embed: Tensor) -> Tensor:
        """``[*B, deter]`` and ``[*B, E]`` to ``[*B, params]``."""
        return self.out(self.mlp(torch.cat([deter, embed], -1)))

    def prepare(self, embed: Tensor) -> Tensor:
        """The embedding's share of the first layer before its normalisation: ``[*B, units]``."""
        first = self.mlp.layer(0).linear
        return F.linear(embed, first.weight[:, self.deter :], first.bias)

    def step(self, deter: Tensor, prepared: Tensor) -> Tensor:
        """``[*B, deter]`` and ``[*B, units]`` to ``[*B, params]``."""
        first = self.mlp.layer(0)
        x = prepared + F.linear(deter, first.linear.weight[:, : self.deter])
        x = first.act(first.norm(x))
        for layer in self.mlp.layers[1:]:
            x = layer(x)
        return self.out(x)


class _RecurrentPosteriorScan(PosteriorScan):
    """A posterior of one layer, unrolled over time."""

    def __init__(self, posterior: RecurrentPosterior, deter: Tensor, prepared: Tensor, raw: Tensor) -> None:
        self.deter, self.raw = deter, raw
        layer = posterior.mlp.layer(0)
        self.full_weight, self.out = layer.linear.weight, (posterior.out.weight, posterior.out.bias)
        self.weight = self.full_weight.detach()[:, : deter.shape[-1]]
        self.out_weight, self.out_bias = (tensor.detach() for tensor in self.out)
        self.hidden = NormAct(deter, prepared.shape, layer.norm)
        self.pre = torch.empty_like(prepared[0])
        self.steps = list(zip(deter.unbind(), prepared.unbind(), raw.unbind(), strict=True))

    def forward(self, t: int) -> None:
        deter, prepared, raw = self.steps[t]
        torch.addmm(prepared, deter, self.weight.T, out=self.pre)
        torch.addmm(self.out_bias, self.hidden.forward(t, self.pre), self.out_weight.T, out=raw)

    def prepare_backward(self) -> None:
        self.hidden.prepare_backward()
        self.raw_grad = torch.empty_like(self.raw)
        self.raw_grads = self.raw_grad.unbind()

    def backward(self, t: int, grad: Tensor, deter_grad: Tensor) -> Tensor:
        torch.mm(self.raw_grads[t].copy_(grad), self.out_weight, out=self.hidden.post_grad)
        return torch.addmm(deter_grad, self.hidden.backward(t), self.weight)

    def parameter_gradients(self) -> Gradients:
        self.prepared_grad = self.hidden.pre_grad
        weight = torch.zeros_like(self.full_weight)
        weight[:, : self.deter.shape[-1]] = weight_gradient(self.deter, self.hidden.pre_grad)
        out = linear_gradients(*self.out, self.hidden.post, self.raw_grad)
        return {self.full_weight: weight} | self.hidden.parameter_gradients() | out


class AbsolutePosterior(Posterior):
    """A posterior that sees the observation only, so that a whole sequence of it is computed at once.

    Args:
        embed: size of the observation's embedding.
        params: raw parameters of the latent.
        units: width of the MLP.
        layers: layers of the MLP.
        norm: normalisation.
        act: activation.
        outscale: factor on the initial weight of the output layer.
        bias: whether the layers before the output have biases.

    Reference: the option ``absolute`` of DreamerV3's code.
    """

    def __init__(
        self,
        embed: int,
        params: int,
        units: int = 1024,
        layers: int = 1,
        norm: Norm = "rms",
        act: Activation = "silu",
        outscale: float = 1.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.mlp = MLP(embed, units, layers, norm, act, bias)
        self.out = linear(self.mlp.out_features, params, outscale)

    def prepare(self, embed: Tensor) -> Tensor:
        """``[*B, E]`` to ``[*B, params]``."""
        return self.out(self.mlp(embed))

    def step(self, deter: Tensor, prepared: Tensor) -> Tensor:
        """Passes ``[*B, params]`` on."""
        return prepared
