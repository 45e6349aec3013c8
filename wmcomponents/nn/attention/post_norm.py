"""Post-norm transformers: whole sequences at once, or position by position with a KV cache."""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wmcomponents.nn.attention.attention import CachePosition, LayerKVCache, MultiHeadAttention
from wmcomponents.nn.memory_format import keep_by_input


class PostNormBlock(nn.Module):
    r"""Attention, then an MLP over each position, each added to its input before a layer norm.

    .. math:: x \leftarrow LN(x + Attn(x)), \qquad x \leftarrow LN(x + W_2\, relu(W_1 x))

    Args:
        dim: size of inputs and outputs.
        heads: number of attention heads.
        hidden: the MLP's hidden size.
        dropout: of attention weights, and behind both parts.

    Reference: Vaswani et al., Attention Is All You Need (2017); the maps of the attention have no biases.
    """

    def __init__(self, dim: int, heads: int, hidden: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(dim, heads, bias=False, dropout=dropout)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, dim), nn.Dropout(dropout))
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)

    def forward(self, x: Float[Tensor, "*batch t dim"], mask: Tensor | None = None) -> Float[Tensor, "*batch t dim"]:
        """A whole sequence, ``[*B, T, D]``; see :meth:`MultiHeadAttention.forward`."""
        x = self.norm1(x + self.attention(x, mask))
        return self.norm2(x + self.mlp(x))

    @torch.no_grad()
    def decode_step(
        self, x: Float[Tensor, "nt dim"], layer: LayerKVCache, cache_position: CachePosition
    ) -> Float[Tensor, "nt dim"]:
        """Positions that follow on others, ``[N * T, D]``; the KV cache is written IN PLACE.

        See :meth:`MultiHeadAttention.decode_step`.
        """
        x = self.norm1(x + self.attention.decode_step(x, layer, cache_position))
        return self.norm2(x + self.mlp(x))


class PostNormTransformer(nn.Module):
    """A layer norm, and a stack of :class:`PostNormBlock`.

    Args:
        layers: number of blocks.
        dim: size of inputs and outputs.
        heads: number of attention heads.
        hidden: hidden size of the blocks' MLPs; twice ``dim`` if not given.
        dropout: in every block.

    Reference: Zhang et al., STORM (2023), and its code.

    Example:
        >>> import torch
        >>> from wmcomponents.nn import CachePosition, empty_kv_cache
        >>> net, x = PostNormTransformer(2, dim=8, heads=2).eval(), torch.randn(1, 3, 8)
        >>> kv_cache = empty_kv_cache([1], 2, 2, length=3, dim=8)
        >>> at = [CachePosition(torch.tensor([[t]]), 3) for t in range(3)]
        >>> steps = [net.decode_step(x[:, t : t + 1], kv_cache, at[t]) for t in range(3)]
        >>> torch.allclose(torch.cat(steps, 1), net(x, torch.ones(3, 3, dtype=torch.bool).tril()), atol=1e-5)
        True
    """

    def __init__(self, layers: int, dim: int, heads: int, *, hidden: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        width = 2 * dim if hidden is None else hidden
        self.blocks = nn.ModuleList(PostNormBlock(dim, heads, width, dropout=dropout) for _ in range(layers))
        keep_by_input(self)

    def forward(self, x: Float[Tensor, "*batch t dim"], mask: Tensor | None = None) -> Float[Tensor, "*batch t dim"]:
        """A whole sequence, ``[*B, T, D]``; see :meth:`MultiHeadAttention.forward`."""
        x = self.norm(x)
        for block in self.blocks:
            x = block(x, mask)
        return x

    @torch.no_grad()
    def decode_step(
        self,
        x: Float[Tensor, "n t dim"],
        kv_cache: Float[Tensor, "n layers two heads s d"],
        cache_position: CachePosition,
    ) -> Float[Tensor, "n t dim"]:
        """Positions that follow on others, ``[N, T, D]``; the KV cache is written IN PLACE, without gradients.

        Args:
            x: inputs of the new positions, ``[N, T, D]``.
            kv_cache: keys and values of all layers, ``[N, layers, 2, heads, S, d]``.
            cache_position: where the new positions stand, and what they see.
        """
        y = self.norm(x).reshape(-1, x.shape[-1])
        for block, layer in zip(self.blocks, cache_position.layers(kv_cache), strict=True):
            y = cast(PostNormBlock, block).decode_step(y, layer, cache_position)
        return y.view(x.shape)
