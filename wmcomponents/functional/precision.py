"""Where half precision is not enough."""

import torch
from jaxtyping import Float
from torch import Tensor


def at_least_float32(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """``x`` in float32, or as it is in float32 and float64: for norms, losses and distributions."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()
