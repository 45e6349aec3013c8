"""Blocks of diffusion transformers that read a text: looking at it, or mixing its tokens with those of a film."""

from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from wmcomponents.nn.attention.attention import MultiHeadAttention
from wmcomponents.nn.attention.attention_function import dot_product_attention
from wmcomponents.nn.attention.axial_rope import AxialRoPE
from wmcomponents.nn.attention.feed_forward import TanhFeedForward
from wmcomponents.nn.attention.positions import InterleavedRoPE
from wmcomponents.nn.diffusion.blocks import bare_norm
from wmcomponents.nn.layers.norm import Float32RMSNorm

head_norm = partial(Float32RMSNorm, eps=1e-6)
"""The norm of each head's queries and keys, from a head's size."""


class TextAttention(nn.Module):
    """Tokens look at a text.

    Args:
        dim: size of tokens, of the text's too.
        heads: number of heads.

    Raises:
        ValueError: if the heads do not divide the size.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise ValueError(f"heads divide the size among them: {dim} features cannot be shared by {heads} heads.")
        self.heads = heads
        self.q, self.kv, self.proj = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)

    def forward(
        self, x: Float[Tensor, "b n d"], text: Float[Tensor, "b m d"], shown: Bool[Tensor, "b 1 1 m"] | None = None
    ) -> Float[Tensor, "b n d"]:
        """What each token finds.

        Args:
            x: who looks.
            text: at what.
            shown: which of the text's tokens mean anything; all if not given.
        """
        q = self.q(x).unflatten(-1, (self.heads, -1)).transpose(-2, -3)
        k, v = self.kv(text).unflatten(-1, (2, self.heads, -1)).movedim(-3, 0).transpose(-2, -3).unbind(0)
        return self.proj(dot_product_attention(q, k, v, shown).transpose(-2, -3).flatten(-2))


class TableBlock(nn.Module):
    r"""Attention, a look at a text, a feed-forward; norms and gates are a table's rows plus a map that blocks share.

    .. math:: x \leftarrow x + g_a Attn(n_a(x)), \quad x \leftarrow x + Text(x), \quad x \leftarrow x + g_m MLP(n_m(x))

    Neither norm nor gate stands around the look at the text. Queries and keys are normed before they are turned.

    Args:
        dim: size of tokens.
        heads: number of attention heads.
        hidden: width of the feed-forward.
        rope: rotary positions of what attends, if any.

    Reference: Chen et al., PixArt-alpha (2023), section 2.3 (adaLN-single); Open-Sora 1.2 (2024).
    """

    def __init__(self, dim: int, heads: int, hidden: int, rope: InterleavedRoPE | None = None) -> None:
        super().__init__()
        self.norm1, self.norm2 = bare_norm(dim), bare_norm(dim)
        self.attention = MultiHeadAttention(dim, heads, rope=rope, qk_norm=head_norm)
        self.text, self.mlp = TextAttention(dim, heads), TanhFeedForward(dim, hidden)
        self.table = nn.Parameter(torch.randn(6, dim) / dim**0.5)

    def forward(
        self,
        x: Float[Tensor, "b t n d"],
        condition: Float[Tensor, "b t 6 d"],
        text: Float[Tensor, "b m d"],
        shown: Bool[Tensor, "b 1 1 m"] | None = None,
        *,
        along_time: bool,
        seen: Bool[Tensor, "b 1 1 1 t"] | None = None,
    ) -> Float[Tensor, "b t n d"]:
        """The tokens of films behind the block.

        Args:
            x: the tokens of each frame.
            condition: of each frame, or one for all; what is shared by all blocks.
            text: looked at by every token.
            shown: see :class:`TextAttention`.
            along_time: whether tokens attend to those at their place in other frames, not to those of their frame.
            seen: which frames are looked at along time; all if not given.
        """
        set_by = (condition + self.table).unsqueeze(-2).unbind(-3)  # (B, T, 1, D) each
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = set_by
        y = self.norm1(x) * (1 + scale_a) + shift_a
        y = self.attention(y.transpose(1, 2), seen).transpose(1, 2) if along_time else self.attention(y)
        x = x + gate_a * y
        x = x + self.text(x.flatten(1, 2), text, shown).view_as(x)
        return x + gate_m * self.mlp(self.norm2(x) * (1 + scale_m) + shift_m)


class Stream(nn.Module):
    """What one kind of tokens goes through around an attention that it shares with another kind.

    Args:
        dim: size of tokens.
        heads: number of attention heads.
        hidden: width of the feed-forward.
        bias: whether queries, keys and values have biases.
    """

    def __init__(self, dim: int, heads: int, hidden: int, bias: bool = True) -> None:
        super().__init__()
        self.norm1, self.norm2 = bare_norm(dim), bare_norm(dim)
        self.attention = MultiHeadAttention(dim, heads, bias=bias, out_bias=True, qk_norm=head_norm)
        self.mlp = TanhFeedForward(dim, hidden)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))

    def set_by(self, condition: Float[Tensor, "b 1 d"]) -> tuple[Tensor, ...]:
        """Shift, scale and gate of the attention, then of the feed-forward."""
        return self.modulation(condition).chunk(6, -1)

    def project(self, x: Float[Tensor, "b n d"], set_by: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, not turned."""
        return self.attention.project(self.norm1(x) * (1 + set_by[1]) + set_by[0])

    def behind(
        self, x: Float[Tensor, "b n d"], heads: Float[Tensor, "b h n d2"], set_by: tuple[Tensor, ...]
    ) -> Float[Tensor, "b n d"]:
        """The tokens, with what their heads found."""
        x = x + set_by[2] * self.attention.merge(heads)
        return x + set_by[5] * self.mlp(self.norm2(x) * (1 + set_by[4]) + set_by[3])


class TwoStreamBlock(nn.Module):
    """Tokens of a film and of a text, each with its own maps, in one attention; the text's come first there.

    Args:
        dim: size of tokens and of the condition.
        heads: number of attention heads.
        hidden: width of the feed-forwards.
        rope: rotary positions.
        bias: whether queries, keys and values have biases.

    Reference: Esser et al., Scaling Rectified Flow Transformers (2024), section 4 (MM-DiT); Open-Sora 2.0 (2025).
    """

    def __init__(self, dim: int, heads: int, hidden: int, rope: AxialRoPE, bias: bool = True) -> None:
        super().__init__()
        self.film, self.text = (Stream(dim, heads, hidden, bias) for _ in range(2))
        self.rope = rope

    def forward(
        self,
        film: Float[Tensor, "b n d"],
        text: Float[Tensor, "b m d"],
        condition: Float[Tensor, "b 1 d"],
        place: Float[Tensor, "m_n axes"],
        seen: Bool[Tensor, "b 1 1 m_n"] | None = None,
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b m d"]]:
        """Both behind the block.

        Args:
            film: tokens of the film.
            text: tokens of the text.
            condition: sets all norms and gates.
            place: of the text's tokens, then of the film's.
            seen: which of both are looked at; all if not given.
        """
        by_text, by_film = self.text.set_by(condition), self.film.set_by(condition)
        parts = zip(self.text.project(text, by_text), self.film.project(film, by_film), strict=True)
        q, k, v = (torch.cat(part, -2) for part in parts)
        found = dot_product_attention(self.rope(q, place), self.rope(k, place), v, seen)
        of_text, of_film = found.split([text.shape[-2], film.shape[-2]], -2)
        return self.film.behind(film, of_film, by_film), self.text.behind(text, of_text, by_text)


class ParallelBlock(nn.Module):
    """Attention and feed-forward beside each other, out of one map and into another, behind one norm.

    Args:
        dim: size of tokens and of the condition.
        heads: number of attention heads.
        hidden: width of the feed-forward.
        rope: rotary positions.

    Raises:
        ValueError: if the heads do not divide the size.

    Reference: Dehghani et al., Scaling Vision Transformers to 22 Billion Parameters (2023), section 2; FLUX.1 (2024).
    """

    def __init__(self, dim: int, heads: int, hidden: int, rope: AxialRoPE) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise ValueError(f"heads divide the size among them: {dim} features cannot be shared by {heads} heads.")
        self.dim, self.heads, self.rope = dim, heads, rope
        self.norm = bare_norm(dim)
        self.map_in, self.map_out = nn.Linear(dim, 3 * dim + hidden), nn.Linear(dim + hidden, dim)
        self.q_norm, self.k_norm = head_norm(dim // heads), head_norm(dim // heads)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 3 * dim))

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        condition: Float[Tensor, "b 1 d"],
        place: Float[Tensor, "n axes"],
        seen: Bool[Tensor, "b 1 1 n"] | None = None,
    ) -> Float[Tensor, "b n d"]:
        """The tokens behind the block.

        Args:
            x: the tokens.
            condition: sets norm and gate.
            place: of each token.
            seen: which tokens are looked at; all if not given.
        """
        shift, scale, gate = self.modulation(condition).chunk(3, -1)
        inner = self.map_in(self.norm(x) * (1 + scale) + shift)
        qkv, wide = inner.split([3 * self.dim, inner.shape[-1] - 3 * self.dim], -1)
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).movedim(-3, 0).transpose(-2, -3).unbind(0)
        q, k = self.rope(self.q_norm(q), place), self.rope(self.k_norm(k), place)
        found = dot_product_attention(q, k, v, seen).transpose(-2, -3).flatten(-2)
        return x + gate * self.map_out(torch.cat([found, nn.functional.gelu(wide, approximate="tanh")], -1))
