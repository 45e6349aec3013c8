"""The block GRU unrolled over time."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from wmcomponents.dynamics.rssm.scan import CellScan, Gradients, NormAct, linear_gradients, weight_gradient
from wmcomponents.nn import BlockLinear, Dense


class BlockGRULayers(NamedTuple):
    """The layers of a block GRU that read the state.

    Attributes:
        deter_in: embedding of the recurrent state.
        stoch_in: embedding of the sample.
        hidden: hidden layer that mixes state and embeddings.
        norm: normalisation of the hidden layer.
        gates: layer of reset, candidate and update.
    """

    deter_in: Dense
    stoch_in: Dense
    hidden: BlockLinear
    norm: nn.Module
    gates: BlockLinear


class BlockGRUScan(CellScan):
    """A block GRU with one hidden layer, unrolled over time.

    The weights of the hidden layer that all blocks share their input of are laid out as one dense matrix, once a
    sequence, so that no block needs a copy of that input.

    Args:
        cell: layers of the cell.
        deter: buffer ``[T, B, D]`` of previous states.
        stoch: buffer ``[T, B, S]`` of previous samples.
        prepared: the actions' share of the hidden layer before its normalisation, ``[T, B, D]``.
        out: buffer ``[T, B, D]`` for the next states.
    """

    def __init__(self, cell: BlockGRULayers, deter: Tensor, stoch: Tensor, prepared: Tensor, out: Tensor) -> None:
        steps, batch, size = deter.shape
        self.deter, self.stoch, self.blocks = deter, stoch, cell.gates.blocks
        width = size // self.blocks
        units = cell.deter_in.linear.out_features
        self.embeds = NormAct(deter, (steps, batch, 2, units), cell.deter_in.norm, cell.stoch_in.norm)
        self.mixed = NormAct(deter, deter.shape, cell.norm)

        layers = (cell.deter_in.linear, cell.stoch_in.linear, cell.gates, cell.hidden)
        self.deter_in, self.stoch_in, self.gates, self.hidden = ((layer.weight, layer.bias) for layer in layers)
        self.deter_weight, self.deter_bias = (tensor.detach() for tensor in self.deter_in)
        self.stoch_weight, self.stoch_bias = (tensor.detach() for tensor in self.stoch_in)
        self.gate_weight, gate_bias = (tensor.detach() for tensor in self.gates)
        self.gate_bias = gate_bias.clone().view(self.blocks, 1, 3 * width)
        self.gate_bias[..., 2 * width :] -= 1.0
        weight = self.hidden[0].detach()
        self.own_weight, self.shared_rows = weight[:, :width], slice(width, width + 2 * units)
        self.shared_weight = weight[:, self.shared_rows].transpose(0, 1).reshape(2 * units, size)

        self.embed_pre, self.mixed_pre = deter.new_empty(batch, 2, units), deter.new_empty(batch, size)
        self.deter_pre, self.stoch_pre = self.embed_pre.unbind(1)
        self.raw = deter.new_empty(self.blocks, batch, 3, width)
        self.raw_gates, (self.raw_reset, self.raw_candidate, self.raw_update) = self.raw.flatten(2), self.raw.unbind(2)
        kept = deter.new_empty(4, steps, self.blocks, batch, width)
        tensors = (deter, stoch, prepared, self._blocks(deter), self._blocks(out), *kept)
        self.steps = list(zip(*(tensor.unbind() for tensor in tensors), strict=True))

    def _blocks(self, x: Tensor) -> Tensor:
        """``[*T, B, D]`` seen as ``[*T, G, B, D/G]``."""
        return x.unflatten(-1, (self.blocks, -1)).transpose(-3, -2)

    def forward(self, t: int) -> None:
        """One step."""
        deter, stoch, prepared, own, out, reset, hidden, candidate, update = self.steps[t]
        torch.addmm(self.deter_bias, deter, self.deter_weight.T, out=self.deter_pre)
        torch.addmm(self.stoch_bias, stoch, self.stoch_weight.T, out=self.stoch_pre)
        shared = self.embeds.forward(t, self.embed_pre).flatten(1)
        torch.addmm(prepared, shared, self.shared_weight, out=self.mixed_pre)
        self._blocks(self.mixed_pre).add_(torch.bmm(own, self.own_weight))
        post = self._blocks(self.mixed.forward(t, self.mixed_pre))
        torch.baddbmm(self.gate_bias, post, self.gate_weight, out=self.raw_gates)
        torch.sigmoid(self.raw_reset, out=reset)
        hidden.copy_(self.raw_candidate)
        torch.mul(reset, hidden, out=candidate).tanh_()
        torch.sigmoid(self.raw_update, out=update)
        torch.lerp(own, candidate, update, out=out)

    def prepare_backward(self) -> None:
        """Make room for gradients."""
        self.embeds.prepare_backward()
        self.mixed.prepare_backward()
        self.raw_grad = self.raw.new_empty(len(self.steps), *self.raw.shape)
        self.post_grad_blocks = self._blocks(self.mixed.post_grad)
        self.shared_grad = self.embeds.post_grad.flatten(1)
        tensors = (self.raw_grad.flatten(3), *self.raw_grad.unbind(3), *self.embeds.pre_grad.unbind(2))
        self.back_steps = list(zip(*(tensor.unbind() for tensor in tensors), strict=True))

    def backward(self, t: int, grad: Tensor) -> tuple[Tensor, Tensor]:
        """From the gradient of ``out[t]`` ``[B, D]``, those of ``deter[t]`` ``[B, D]`` and ``stoch[t]`` ``[B, S]``."""
        _, _, _, own, _, reset, hidden, candidate, update = self.steps[t]
        raw_grad, reset_grad, candidate_grad, update_grad, deter_pre_grad, stoch_pre_grad = self.back_steps[t]
        deter_grad = torch.empty_like(grad)
        own_grad, out_grad = self._blocks(deter_grad), self._blocks(grad)
        sigmoid_backward, tanh_backward = torch.ops.aten.sigmoid_backward, torch.ops.aten.tanh_backward
        sigmoid_backward.grad_input((candidate - own).mul_(out_grad), update, grad_input=update_grad)
        through = out_grad * update
        torch.sub(out_grad, through, out=own_grad)
        through = tanh_backward(through, candidate)
        torch.mul(through, reset, out=candidate_grad)
        sigmoid_backward.grad_input(through.mul_(hidden), reset, grad_input=reset_grad)
        self.post_grad_blocks.copy_(torch.bmm(raw_grad, self.gate_weight.transpose(1, 2)))
        pre_grad = self.mixed.backward(t)
        torch.mm(pre_grad, self.shared_weight.T, out=self.shared_grad)
        self.embeds.backward(t)
        own_grad.add_(torch.bmm(self._blocks(pre_grad), self.own_weight.transpose(1, 2)))
        return deter_grad.addmm_(deter_pre_grad, self.deter_weight), stoch_pre_grad @ self.stoch_weight

    def parameter_gradients(self) -> Gradients:
        """Gradients of all weights the step uses; those of the actions' share follow from ``prepared_grad``."""
        self.prepared_grad = self.mixed.pre_grad
        deter_pre_grad, stoch_pre_grad = self.embeds.pre_grad.unbind(2)
        grads = linear_gradients(*self.deter_in, self.deter, deter_pre_grad)
        grads |= linear_gradients(*self.stoch_in, self.stoch, stoch_pre_grad)
        grads |= self.embeds.parameter_gradients() | self.mixed.parameter_gradients()
        own, post, pre_grad = (self._rows(self._blocks(x)) for x in (self.deter, self.mixed.post, self.mixed.pre_grad))
        weight_grad = torch.zeros_like(self.hidden[0])
        weight_grad[:, : own.shape[-1]] = torch.bmm(own.transpose(1, 2), pre_grad)
        shared_grad = weight_gradient(self.mixed.pre_grad, self.embeds.post.flatten(2))  # (2U, D)
        weight_grad[:, self.shared_rows] = shared_grad.unflatten(1, (self.blocks, -1)).transpose(0, 1)
        gate_grad = self._rows(self.raw_grad.flatten(3))
        gate_grads = (torch.bmm(post.transpose(1, 2), gate_grad), gate_grad.sum(1).flatten())
        return grads | {self.hidden[0]: weight_grad} | dict(zip(self.gates, gate_grads, strict=True))

    @staticmethod
    def _rows(x: Tensor) -> Tensor:
        """``[T, G, B, n]`` as ``[G, T*B, n]``."""
        return x.transpose(0, 1).flatten(1, 2)
