"""Pre-norm transformers: whole sequences at once, or position by position with a KV cache."""

from collections.abc import Callable
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from wmcomponents.nn.attention.attention import CachePosition, LayerKVCache, MultiHeadAttention
from wmcomponents.nn.attention.positions import InterleavedRoPE, RoPE
from wmcomponents.nn.attention.sequence_mask import SequenceMask
from wmcomponents.nn.memory_format import keep_by_input


class TransformerBlock(nn.Module):
    r"""Attention, then an MLP over each position, each behind a layer norm and added to its input.

    .. math:: x \leftarrow x + Attn(LN(x)), \qquad x \leftarrow x + W_2\, GELU(W_1 LN(x))

    Args:
        dim: size of inputs and outputs.
        heads: number of attention heads.
        mlp_ratio: the MLP's hidden size over ``dim``.
        dropout: in attention and behind both parts.
        bias: whether the maps have biases.
        rope: rotary positions, if any.
        norm: makes a norm from its size; ``nn.LayerNorm`` if not given.
        feed_forward: makes what each position goes through by itself from its size; the MLP if not given.

    Reference: Radford et al., GPT-2 (2019); the GELU is exact, not its tanh form.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        mlp_ratio: int = 4,
        dropout: float = 0.0,
        bias: bool = True,
        rope: RoPE | InterleavedRoPE | None = None,
        norm: Callable[[int], nn.Module] = nn.LayerNorm,
        feed_forward: Callable[[int], nn.Sequential] | None = None,
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(dim), norm(dim)
        self.attention = MultiHeadAttention(dim, heads, bias=bias, dropout=dropout, rope=rope)
        if feed_forward is not None:
            self.mlp = feed_forward(dim)
            return
        self.mlp = nn.Sequential(
            nn.Linear(dim, mlp_ratio * dim, bias=bias),
            nn.GELU(),
            nn.Linear(mlp_ratio * dim, dim, bias=bias),
            nn.Dropout(dropout),
        )

    def forward(
        self,
        x: Float[Tensor, "*batch t dim"],
        mask: Tensor | SequenceMask | None = None,
        position: Int[Tensor, "*rows t"] | None = None,
    ) -> Float[Tensor, "*batch t dim"]:
        """A whole sequence, ``[*B, T, D]``; see :meth:`MultiHeadAttention.forward`."""
        x = x + self.attention(self.norm1(x), mask, position)
        return x + self.mlp(self.norm2(x))

    @torch.no_grad()
    def decode_step(
        self, x: Float[Tensor, "nt dim"], layer: LayerKVCache, cache_position: CachePosition
    ) -> Float[Tensor, "nt dim"]:
        """Positions that follow on others, ``[N * T, D]``; the KV cache is written IN PLACE.

        See :meth:`MultiHeadAttention.decode_step`.
        """
        x = x + self.attention.decode_step(self.norm1(x), layer, cache_position)
        return x + self.mlp(self.norm2(x))


class CachedTransformer(nn.Module):
    """A stack of blocks and a last norm.

    Args:
        layers: number of blocks.
        dim: size of inputs and outputs.
        heads: number of attention heads.
        dropout: in every block.
        bias: whether the blocks' maps have biases.
        rope: rotary positions, if any.
        norm: see :class:`TransformerBlock`.
        feed_forward: see :class:`TransformerBlock`.

    Example:
        >>> import torch
        >>> from wmcomponents.nn.attention.attention import CachePosition, empty_kv_cache
        >>> net, x = CachedTransformer(2, dim=8, heads=2).eval(), torch.randn(1, 3, 8)
        >>> kv_cache = empty_kv_cache([1], 2, 2, length=3, dim=8)
        >>> at = [CachePosition(torch.tensor([[t]]), 3) for t in range(3)]
        >>> steps = [net.decode_step(x[:, t : t + 1], kv_cache, at[t]) for t in range(3)]
        >>> torch.allclose(torch.cat(steps, 1), net(x, torch.ones(3, 3, dtype=torch.bool).tril()), atol=1e-6)
        True
    """

    def __init__(
        self,
        layers: int,
        dim: int,
        heads: int,
        *,
        dropout: float = 0.0,
        bias: bool = True,
        rope: RoPE | InterleavedRoPE | None = None,
        norm: Callable[[int], nn.Module] = nn.LayerNorm,
        feed_forward: Callable[[int], nn.Sequential] | None = None,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            TransformerBlock(dim, heads, dropout=dropout, bias=bias, rope=rope, norm=norm, feed_forward=feed_forward)
            for _ in range(layers)
        )
        self.norm = norm(dim)
        keep_by_input(self)

    def forward(
        self,
        x: Float[Tensor, "*batch t dim"],
        mask: Tensor | SequenceMask | None = None,
        position: Int[Tensor, "*rows t"] | None = None,
    ) -> Float[Tensor, "*batch t dim"]:
        """A whole sequence, ``[*B, T, D]``; see :meth:`MultiHeadAttention.forward`."""
        for block in self.blocks:
            x = block(x, mask, position)
        return self.norm(x)

    @torch.no_grad()
    def decode_step(
        self,
        x: Float[Tensor, "n t dim"],
        kv_cache: Float[Tensor, "n layers two heads s d"],
        cache_position: CachePosition,
    ) -> Float[Tensor, "n t dim"]:
        """Positions that follow on others, ``[N, T, D]``; the KV cache is written IN PLACE.

        No gradients are recorded: what was written over cannot be differentiated.

        Args:
            x: inputs of the new positions, ``[N, T, D]``.
            kv_cache: keys and values of all layers, ``[N, layers, 2, heads, S, d]``.
            cache_position: where the new positions stand, and what they see.
        """
        y = x.reshape(-1, x.shape[-1])
        for block, layer in zip(self.blocks, cache_position.layers(kv_cache), strict=True):
            y = cast(TransformerBlock, block).decode_step(y, layer, cache_position)
        return self.norm(y).view(x.shape)


def gpt_init_(module: nn.Module, std: float = 0.02) -> None:
    """Normal weights of linear maps and embeddings, biases 0, layer norms 1 and 0 (GPT-2); for ``Module.apply``."""
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=std)
    if isinstance(module, (nn.Linear, nn.LayerNorm)) and module.bias is not None:
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
