"""Blocks of a film's transformer: the paper's, and those of the open codes."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, cast

from jaxtyping import Float, Int
from torch import Tensor, nn

from wmcomponents.nn.attention.attention import MultiHeadAttention
from wmcomponents.nn.attention.feed_forward import FeedForward, TanhFeedForward
from wmcomponents.nn.space_time.attention import SharedNormAttention
from wmcomponents.nn.space_time.branches import Branch, SpaceBranch, TimeBranch, TokenBranch


class STBlock(nn.Module):
    r"""Branches in turn, each added to its input: :math:`x \leftarrow x + f(x)`.

    A block of Genie's is attention in space, causal attention in time, and ONE feed-forward behind both.

    Args:
        branches: in their order.

    Reference: Bruce et al., Genie: Generative Interactive Environments (2024), section 2.
    """

    def __init__(self, branches: Sequence[Branch]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Float[Tensor, "b t n d"]) -> Float[Tensor, "b t n d"]:
        """A whole film."""
        for branch in self.branches:
            x = x + branch(x)
        return x

    def remember(self, x: Float[Tensor, "b t n d"]) -> tuple[Float[Tensor, "b t n d"], list[Any]]:
        """The frames of the past, and what a further frame needs of them."""
        kept = []
        for branch in self.branches:
            added, past = cast(Branch, branch).remember(x)
            x = x + added
            kept.append(past)
        return x, kept

    def follow(self, x: Float[Tensor, "b n d"], past: list[Any], place: Int[Tensor, "b 1"]) -> Float[Tensor, "b n d"]:
        """One more frame; see :meth:`wmcomponents.nn.space_time.branches.Branch.follow`."""
        for branch, kept in zip(self.branches, past, strict=True):
            x = x + cast(Branch, branch).follow(x, kept, place)
        return x

    def extend(
        self, x: Float[Tensor, "b n d"], past: list[Any], place: Int[Tensor, "b 1"]
    ) -> tuple[Float[Tensor, "b n d"], list[Tensor]]:
        """One more frame, and what frames behind it need of it; see :meth:`pack`."""
        own = []
        for branch, kept in zip(self.branches, past, strict=True):
            added, piece = cast(Branch, branch).extend(x, kept, place)
            x = x + added
            own += [] if piece is None else [piece]
        return x, own

    def pack(self, past: list[Any]) -> list[Float[Tensor, "b p n k"]]:
        """What :meth:`remember` gave, as numbers of each token of each frame, of the branches that keep any."""
        pieces = [cast(Branch, branch).pack(kept) for branch, kept in zip(self.branches, past, strict=True)]
        return [piece for piece in pieces if piece is not None]

    def unpack(self, pieces: Iterator[Tensor]) -> list[Any]:
        """What :meth:`pack` packed, as :meth:`follow` reads it."""
        return [cast(Branch, branch).unpack(next(pieces)) if branch.keeps else None for branch in self.branches]


def genie_block(dim: int, heads: int, hidden: int, head_dim: int | None = None) -> STBlock:
    """Genie's block: layer norms before all three branches, and of each head's queries and keys.

    The paper says that queries and keys are normed, and not how; maps have biases, and the GELU is exact here.

    Args:
        dim: size of a token.
        heads: of each attention.
        hidden: width of the feed-forward.
        head_dim: size of a head, where it is not ``dim / heads``.

    Reference: Bruce et al., Genie (2024), section 2 and appendix C.
    """
    attention = partial(MultiHeadAttention, dim, heads, head_dim=head_dim, qk_norm=nn.LayerNorm)
    return STBlock([
        SpaceBranch(nn.LayerNorm(dim), attention()),
        TimeBranch(nn.LayerNorm(dim), attention()),
        TokenBranch(nn.LayerNorm(dim), FeedForward(dim, hidden)),
    ])  # fmt: skip


def jasmine_block(dim: int, heads: int, hidden: int, head_dim: int | None = None) -> STBlock:
    """The block of p-doom/jasmine: layer norms before all three branches, the GELU's tanh form.

    Args:
        dim: size of a token.
        heads: of each attention.
        hidden: width of the feed-forward.
        head_dim: size of a head, where it is not ``dim / heads``.
    """
    attention = partial(MultiHeadAttention, dim, heads, head_dim=head_dim)
    return STBlock([
        SpaceBranch(nn.LayerNorm(dim, 1e-6), attention()),
        TimeBranch(nn.LayerNorm(dim, 1e-6), attention()),
        TokenBranch(nn.LayerNorm(dim, 1e-6), TanhFeedForward(dim, hidden)),
    ])  # fmt: skip


def onexgpt_block(dim: int, heads: int, hidden: int, *, bias: bool = False, scale: float | None = None) -> STBlock:
    """The block of 1x-technologies/1xgpt: queries and keys share a norm, and nothing else is normed.

    Args:
        dim: size of a token.
        heads: of each attention.
        hidden: width of the feed-forward.
        bias: whether queries, keys and values have biases.
        scale: of the logits: 8 over a head's size where the code's muP is used; its root divides if not given.
    """
    return STBlock([
        SpaceBranch(nn.Identity(), SharedNormAttention(dim, heads, bias=bias), scale=scale),
        TimeBranch(nn.Identity(), SharedNormAttention(dim, heads, bias=bias), scale=scale),
        TokenBranch(nn.Identity(), FeedForward(dim, hidden)),
    ])  # fmt: skip


def onexgpt_pre_norm_block(
    dim: int, heads: int, hidden: int, *, bias: bool = False, scale: float | None = None
) -> STBlock:
    """The other block of 1x-technologies/1xgpt: layer norms before space and feed-forward, none before time.

    Args:
        dim: size of a token.
        heads: of each attention.
        hidden: width of the feed-forward.
        bias: whether queries, keys and values have biases.
        scale: see :func:`onexgpt_block`.
    """
    attention = partial(MultiHeadAttention, dim, heads, bias=bias, out_bias=True)
    return STBlock([
        SpaceBranch(nn.LayerNorm(dim), attention(), scale=scale),
        TimeBranch(nn.Identity(), attention(), scale=scale),
        TokenBranch(nn.LayerNorm(dim), FeedForward(dim, hidden)),
    ])  # fmt: skip
