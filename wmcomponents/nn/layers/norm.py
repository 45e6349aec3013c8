"""Normalisation over the last dimension, in float32 at least."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from wmcomponents.functional.precision import at_least_float32

Norm = Literal["rms", "layer", "keras_layer", "none"]


class Float32RMSNorm(nn.Module):
    """``x / sqrt(mean(x^2) + eps) * weight`` over the last dimension: a learned scale, no shift.

    Args:
        dim: size of the last dimension.
        eps: under the root. DreamerV3 uses 1e-4, far above torch's default.
    """

    def __init__(self, dim: int, eps: float = 1e-4) -> None:
        super().__init__()
        self.dim, self.eps = dim, eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Normalise the last dimension."""
        return F.rms_norm(at_least_float32(x), (self.dim,), self.weight, self.eps).to(x.dtype)

    def extra_repr(self) -> str:
        """Size and epsilon."""
        return f"{self.dim}, eps={self.eps}"


class Float32LayerNorm(nn.Module):
    """Layer normalisation with scale and shift over the last dimension.

    Args:
        dim: size of the last dimension.
        eps: under the root.
    """

    def __init__(self, dim: int, eps: float = 1e-4) -> None:
        super().__init__()
        self.dim, self.eps = dim, eps
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Normalise the last dimension."""
        return F.layer_norm(at_least_float32(x), (self.dim,), self.weight, self.bias, self.eps).to(x.dtype)

    def extra_repr(self) -> str:
        """Size and epsilon."""
        return f"{self.dim}, eps={self.eps}"


_NORMS = {"rms": Float32RMSNorm, "layer": Float32LayerNorm}
# Dreamer V2 and DreamerV3 of 2023 keep the epsilon of Keras.
_KERAS_EPS = 1e-3


def make_norm(norm: Norm, dim: int, eps: float = 1e-4) -> nn.Module:
    """The normalisation of a name: "rms", "layer", "keras_layer" (with an epsilon of 1e-3, whatever ``eps``) or "none".

    Raises:
        ValueError: for another name.
    """
    if norm == "none":
        return nn.Identity()
    if norm == "keras_layer":
        return Float32LayerNorm(dim, _KERAS_EPS)
    if norm not in _NORMS:
        raise ValueError(f"norm must be one of {[*_NORMS, 'keras_layer', 'none']}; got {norm!r}.")
    return _NORMS[norm](dim, eps)
