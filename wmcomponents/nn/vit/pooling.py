"""Many tokens as one: a learned query that looks at them."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from wmcomponents.nn.attention.feed_forward import FeedForward
from wmcomponents.nn.vit.block import ViTBlock


class CrossAttention(nn.Module):
    """Queries look at other tokens; each head's result is passed on as it is, without an output map.

    Args:
        dim: size of tokens.
        heads: number of heads; divides ``dim``.

    Raises:
        ValueError: if the heads do not divide the size.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise ValueError(f"heads divide the size among them: {dim} features cannot be shared by {heads} heads.")
        self.heads = heads
        self.q, self.kv = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim)

    def forward(self, query: Float[Tensor, "b q d"], x: Float[Tensor, "b n d"]) -> Float[Tensor, "b q d"]:
        """What each query sees.

        Args:
            query: who looks.
            x: at what.
        """
        q = self.q(query).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(x).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class AttentivePooling(nn.Module):
    """Learned queries look at tokens: what V-JEPA's frozen features are judged by.

    Only the tokens pass a layer norm before the queries look at them. In V-JEPA 2 tokens look at each other first.

    Args:
        dim: size of tokens.
        heads: number of heads.
        queries: number of learned queries.
        blocks: how many times the tokens look at each other first: 0 in V-JEPA, 3 in V-JEPA 2.
        hidden: width of the feed-forwards; ``4 * dim`` if not given.
        eps: of the layer norms.

    Reference: Bardes et al., V-JEPA (2024), appendix; Assran et al., V-JEPA 2 (2025).

    Example:
        >>> AttentivePooling(8, 2)(torch.zeros(3, 5, 8)).shape
        torch.Size([3, 1, 8])
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        queries: int = 1,
        blocks: int = 0,
        hidden: int | None = None,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        hidden = 4 * dim if hidden is None else hidden
        self.query = nn.Parameter(nn.init.trunc_normal_(torch.empty(queries, dim), std=0.02))
        self.blocks = nn.ModuleList(ViTBlock(dim, heads, hidden, eps=eps) for _ in range(blocks))
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps), nn.LayerNorm(dim, eps)
        self.attention, self.mlp = CrossAttention(dim, heads), FeedForward(dim, hidden)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b q d"]:
        """One vector for each query."""
        for block in self.blocks:
            x = block(x)
        pooled = self.query + self.attention(self.query.expand(len(x), -1, -1), self.norm1(x))
        return pooled + self.mlp(self.norm2(pooled))
