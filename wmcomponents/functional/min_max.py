"""Scaling of hidden states into [0, 1] (MuZero, appendix G), as each code base guards it."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Guard = Literal["add", "floor", "none"]


def min_max_scale(
    x: Float[Tensor, "*shape"], event_dims: int = 1, guard: Guard = "add", eps: float = 1e-5
) -> Float[Tensor, "*shape"]:
    """``(x - min) / (max - min)`` over the last ``event_dims`` dimensions.

    Args:
        x: hidden states: vectors (1 event dimension), or planes ``[*B, C, H, W]``, scaled for each channel over space
            (2, muzero-general) or over everything (3, LightZero and EfficientZero).
        event_dims: how many dimensions share a minimum and a maximum.
        guard: against a range of 0. ``"add"``: ``eps`` is added where the range is smaller than that (muzero-general);
            ``"floor"``: it is at least ``eps`` (LightZero: 1e-8); ``"none"`` (EfficientZero).
        eps: see guard.
    """
    dims = tuple(range(-event_dims, 0))
    low = x.amin(dims, keepdim=True)
    span = x.amax(dims, keepdim=True) - low
    if guard == "add":
        span = torch.where(span < eps, span + eps, span)
    elif guard == "floor":
        span = span.clamp_min(eps)
    return (x - low) / span
