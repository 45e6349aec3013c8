"""Attention whose queries and keys are normed, in the forms of two codes of playable worlds."""

from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from wmcomponents.nn.attention.attention import MultiHeadAttention


class HeadAttention(Protocol):
    """What space and time ask of an attention: its heads before they look, and its output of what they saw.

    Attributes:
        heads: how many.
    """

    heads: int

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, ``[*B, heads, T, d]``, of ``[*B, T, D]``."""
        ...

    def merge(self, heads: Tensor) -> Tensor:
        """The output ``[*B, T, D]`` of ``[*B, heads, T, d]``."""
        ...


class SharedNormAttention(nn.Module):
    """Attention whose queries and keys pass one and the same layer norm, of a head's size.

    Args:
        dim: size of inputs and outputs.
        heads: number of heads.
        bias: whether the maps of queries, keys and values have biases; the output's has.
        eps: of the layer norm.

    Raises:
        ValueError: if the heads do not divide the size.

    Reference: 1x-technologies/1xgpt, the published code of a Genie without actions.
    """

    def __init__(self, dim: int, heads: int, *, bias: bool = False, eps: float = 1e-5) -> None:
        super().__init__()
        self.heads = heads
        self.attention = MultiHeadAttention(dim, heads, bias=bias, out_bias=True)
        self.norm = nn.LayerNorm(dim // heads, eps)

    def project(self, x: Float[Tensor, "*batch t dim"]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, ``[*B, heads, T, d]``."""
        q, k, v = self.attention.project(x)
        return self.norm(q), self.norm(k), v

    def merge(self, heads: Float[Tensor, "*batch heads t d"]) -> Float[Tensor, "*batch t dim"]:
        """What the heads found, as one output."""
        return self.attention.merge(heads)


class CosineAttention(nn.Module):
    r"""Attention that compares directions: queries and keys have length 1, times a learned scale for each number.

    Queries are made of the normed input, keys and values of the input as it is. Logits are taken times 8, which
    whoever compares the heads does (``scale=8.0``).

    Args:
        dim: size of inputs and outputs.
        heads: number of heads.
        head_dim: size of a head.

    Reference: GenieRedux (Kazemi et al., 2024), whose blocks are those of Phenaki's open code.
    """

    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim, bias=False)
        self.q = nn.Linear(dim, heads * head_dim, bias=False)
        self.kv = nn.Linear(dim, 2 * heads * head_dim, bias=False)
        self.q_scale, self.k_scale = (nn.Parameter(torch.ones(head_dim)) for _ in range(2))
        self.out = nn.Linear(heads * head_dim, dim, bias=False)

    def project(self, x: Float[Tensor, "*batch t dim"]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, ``[*B, heads, T, d]``."""
        q = self.q(self.norm(x)).unflatten(-1, (self.heads, -1)).transpose(-2, -3)
        k, v = self.kv(x).unflatten(-1, (2, self.heads, -1)).movedim(-3, 0).transpose(-2, -3).unbind(0)
        return F.normalize(q, dim=-1) * self.q_scale, F.normalize(k, dim=-1) * self.k_scale, v

    def merge(self, heads: Float[Tensor, "*batch heads t d"]) -> Float[Tensor, "*batch t dim"]:
        """What the heads found, as one output."""
        return self.out(heads.transpose(-2, -3).flatten(-2))
