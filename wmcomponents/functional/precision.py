"""Where half precision is not enough."""

from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float
from torch import Tensor


def at_least_float32(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """``x`` in float32, or as it is in float32 and float64: for norms, losses and distributions."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def full_precision(like: torch.Tensor) -> AbstractContextManager:
    """Products and distances in the precision of what enters them, whatever autocast says: for choices between codes.

    Args:
        like: gives the device, ``[*shape]``.
    """
    kind = like.device.type
    # Where nothing is computed (the meta device) there is no autocast to ask for.
    if torch.compiler.is_compiling() or kind == "meta" or not torch.is_autocast_enabled(kind):
        return nullcontext()
    return torch.autocast(kind, enabled=False)
