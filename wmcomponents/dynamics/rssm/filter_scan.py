"""Filtering a whole sequence with a backward pass written by hand.

Autograd records some fifty small operations a time step, and adds up one weight gradient a step. Here a step runs
without being recorded, on buffers that hold all steps; the backward pass visits the steps in reverse, reuses what the
forward pass left in cache-sized pieces, and takes the gradient of each weight once, from all steps.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


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
            scan.prepare_backward()
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
        found = cells.parameter_gradients() | posteriors.parameter_gradients()
        inputs = (None, deter_grad, stoch_grad, cells.prepared_grad, posteriors.prepared_grad, None, None)
        return *inputs, *(found.get(parameter) for parameter in ctx.parameters)


def filter_scan(
    parts, deter: Tensor, stoch: Tensor, actions: Tensor, embeds: Tensor, is_init: Tensor, noise: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Filter T steps with a cell, a posterior and a latent that offer scans; everything is time-major.

    Args:
        parts: cell, posterior, latent.
        deter: recurrent state before the first step, ``[B, D]``.
        stoch: flat sample before the first step, ``[B, S]``.
        actions: actions as the cell prepared them, ``[T, B, P]``.
        embeds: embeddings as the posterior prepared them, ``[T, B, Q]``.
        is_init: whether an episode begins with the observation, bool ``[T, B, 1]``.
        noise: base noise of the samples, ``[T, B, *latent.noise_shape]``; None: the mode.

    Returns:
        deter ``[T, B, D]``, stoch ``[T, B, S]``, raw posterior ``[T, B, params]``.
    """
    parameters = [parameter for part in parts for parameter in part.parameters()]
    return _Filter.apply(parts, deter, stoch, actions, embeds, is_init, noise, *parameters)
