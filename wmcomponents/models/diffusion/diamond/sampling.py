"""The next frame by diffusion, from the last frames and actions."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from wmcomponents.denoisers import EDMDenoiser
from wmcomponents.denoisers.edm import frames_as_channels
from wmcomponents.functional.edm import from_bytes
from wmcomponents.functional.edm_sampler import EDMSampler


class SamplingNoise(NamedTuple):
    """Noise of one frame of n rows, as a sampler takes it.

    Attributes:
        start: where sampling begins, ``[n, C, H, W]``.
        churn: what is put back before each step, ``[steps, n, C, H, W]``; ``None`` for none.
        context: what is added to the context before each step, ``[n, steps, T, H, W, C]``; ``None`` for none.
    """

    start: Tensor
    churn: Tensor | None = None
    context: Tensor | None = None

    @classmethod
    def of(cls, noise: Mapping[str, Tensor], rows: slice, like: Tensor, prefix: str = "") -> "SamplingNoise":
        """The noise of some rows, out of a dream's noise with frames as environments lay them out.

        Args:
            noise: by name, ``[N, ...]``; sampling begins at zero where it is not given.
            rows: which of them.
            like: a frame of these rows, ``[n, C, H, W]``.
            prefix: before the names.
        """
        start, churn = noise.get(f"{prefix}frame"), noise.get(f"{prefix}churn")
        context = noise.get(f"{prefix}context_noise")
        return cls(
            torch.zeros_like(like) if start is None else start[rows].permute(0, 3, 1, 2),
            None if churn is None else churn[rows].permute(1, 0, 4, 2, 3),
            None if context is None else context[rows],
        )


def draw_frame(
    denoiser: EDMDenoiser, sampler: EDMSampler, context: Tensor, actions: Tensor | None, noise: SamplingNoise
) -> Tensor:
    """The next frame, ``[n, C, H, W]`` in [-1, 1].

    Args:
        denoiser: D.
        sampler: how it is sampled.
        context: what D is conditioned on, ``[n, TC, H, W]``.
        actions: vectors of the last actions, ``[n, T, A]``, where D is conditioned on them.
        noise: of the rows.
    """
    contexts, sigma_context = [context] * sampler.steps, None
    if sampler.s_cond > 0:
        sigma_context = context.new_full((len(context),), sampler.s_cond)
        if noise.context is not None:  # each on top of those before
            steps = (sampler.s_cond * noise.context).cumsum(1).unbind(1)
            contexts = [context + frames_as_channels(step) for step in steps]

    def denoise(x: Tensor, sigma: float, step: int) -> Tensor:
        return denoiser.denoise(x, x.new_full((len(x),), sigma), contexts[step], actions, sigma_context)

    return sampler.sample(denoise, noise.start, noise.churn)


def context_of(frames: Tensor, seen: Tensor) -> Tensor:
    """Past frames as a network reads them, ``[n, TC, H, W]``: zero where there is none.

    Args:
        frames: the last ones, uint8 ``[n, T, H, W, C]``.
        seen: how many of them there are, ``[n, 1]``.
    """
    count = frames.shape[1]
    known = torch.arange(count, device=frames.device) >= count - seen
    return frames_as_channels(torch.where(known[:, :, None, None, None], from_bytes(frames), 0.0))
