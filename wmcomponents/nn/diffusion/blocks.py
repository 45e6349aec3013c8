"""Blocks of diffusion transformers: DiT's, and the one that looks at a context beside its own tokens."""

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from wmcomponents.nn.attention.adaptive_block import AdaptiveBlock
from wmcomponents.nn.attention.attention import MultiHeadAttention
from wmcomponents.nn.attention.attention_function import dot_product_attention
from wmcomponents.nn.attention.axial_rope import AxialRoPE
from wmcomponents.nn.attention.feed_forward import TanhFeedForward
from wmcomponents.nn.attention.positions import InterleavedRoPE, RoPE


def bare_norm(dim: int) -> nn.LayerNorm:
    """A layer norm without weights of its own, which a condition shifts and scales.

    Args:
        dim: size of the last dimension.
    """
    return nn.LayerNorm(dim, 1e-6, elementwise_affine=False)


def dit_block(
    dim: int,
    heads: int,
    hidden: int,
    *,
    bias: bool = True,
    rope: RoPE | InterleavedRoPE | AxialRoPE | None = None,
) -> AdaptiveBlock:
    """DiT's block (adaLN-Zero): norms without weights of their own, the GELU's tanh form.

    Args:
        dim: size of tokens and of the condition.
        heads: number of attention heads.
        hidden: width of the feed-forward.
        bias: whether queries, keys and values have biases; outputs always have.
        rope: rotary positions, if any.

    Reference: Peebles and Xie, Scalable Diffusion Models with Transformers (DiT, 2023), section 3.2.
    """
    attention = MultiHeadAttention(dim, heads, bias=bias, out_bias=True, rope=rope)
    return AdaptiveBlock(dim, dim, attention, TanhFeedForward(dim, hidden), partial(bare_norm, dim))


class ContextAttention(nn.Module):
    """Tokens look at a context, and at one learned token beside it.

    The maps of queries, keys and values lie in one matrix, one below the other.

    Args:
        dim: size of tokens.
        heads: number of heads.

    Raises:
        ValueError: if the heads do not divide the size.

    Reference: Bar et al., Navigation World Models (2024), and its code, which takes the learned token from
    ``torch.nn.MultiheadAttention``.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise ValueError(f"heads divide the size among them: {dim} features cannot be shared by {heads} heads.")
        self.heads = heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.key, self.value = (nn.Parameter(nn.init.xavier_normal_(torch.empty(1, dim))[0]) for _ in range(2))

    def forward(
        self, x: Float[Tensor, "*batch n d"], context: Float[Tensor, "*batch m d"]
    ) -> Float[Tensor, "*batch n d"]:
        """What each token finds.

        Args:
            x: who looks.
            context: at what.
        """
        dim, (weight, bias) = x.shape[-1], (self.qkv.weight, self.qkv.bias)
        q = linear(x, weight[:dim], bias[:dim])
        k, v = linear(context, weight[dim:], bias[dim:]).chunk(2, -1)
        beside = (*context.shape[:-2], 1, dim)
        k, v = (torch.cat([y, one.expand(beside)], -2) for y, one in ((k, self.key), (v, self.value)))
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(-2, -3) for y in (q, k, v))
        return self.proj(dot_product_attention(q, k, v).transpose(-2, -3).flatten(-2))


class ContextBlock(nn.Module):
    r"""A block that looks at its own tokens, then at a context, then maps each token; a condition sets all norms.

    .. math:: x \leftarrow x + g_a Attn(n_a(x)), \quad x \leftarrow x + g_c Cross(n_q(x), n_k(context)), \quad
        x \leftarrow x + g_m MLP(n_m(x))

    with :math:`n(x) = LN(x) (1 + scale) + shift`. The eleven shifts, scales and gates are one map of silu(condition),
    0 at first. The context itself passes all blocks unchanged, which makes its cost linear in its length.

    Args:
        dim: size of tokens and of the condition.
        heads: number of attention heads.
        hidden: width of the feed-forward.

    Reference: Bar et al., Navigation World Models (2024), section 3.2 (CDiT).
    """

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm_context, self.norm3 = (bare_norm(dim) for _ in range(4))
        self.attention = MultiHeadAttention(dim, heads)
        self.cross, self.mlp = ContextAttention(dim, heads), TanhFeedForward(dim, hidden)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 11 * dim))
        for parameter in self.modulation.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self,
        x: Float[Tensor, "*batch n d"],
        condition: Float[Tensor, "*#batch #n d"],
        context: Float[Tensor, "*batch m d"],
    ) -> Float[Tensor, "*batch n d"]:
        """The tokens behind the block.

        Args:
            x: the tokens.
            condition: one for all of them.
            context: other tokens.
        """
        set_by = self.modulation(condition).chunk(11, -1)
        shift_a, scale_a, gate_a, shift_k, scale_k, shift_q, scale_q, gate_c, shift_m, scale_m, gate_m = set_by
        x = x + gate_a * self.attention(self.norm1(x) * (1 + scale_a) + shift_a)
        seen = self.norm_context(context) * (1 + scale_k) + shift_k
        x = x + gate_c * self.cross(self.norm2(x) * (1 + scale_q) + shift_q, seen)
        return x + gate_m * self.mlp(self.norm3(x) * (1 + scale_m) + shift_m)
