"""LeWorldModel's predictor: one vector a frame, through blocks whose norms the actions set."""

from collections.abc import Sequence

import torch
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.component import Component
from wmcomponents.nn import AdaptiveBlock, FeedForward, MultiHeadAttention, frame_causal_mask
from wmcomponents.nn.attention.normed import NormedAttention
from wmcomponents.nn.layers.batch_norm import BatchNorm1d


class ActionEmbedding(nn.Module):
    """Actions, mixed by a linear map, then by two with a SiLU in between.

    Args:
        action: numbers of an action: of all environment steps that a step of the model spans.
        mixed: after the first map.
        dim: of the result.
        ratio: width in between over ``dim``.

    Reference: the code of stable-worldmodel (2026).
    """

    def __init__(self, action: int, mixed: int, dim: int, ratio: int = 4) -> None:
        super().__init__()
        self.mix = nn.Linear(action, mixed)
        self.net = nn.Sequential(nn.Linear(mixed, ratio * dim), nn.SiLU(), nn.Linear(ratio * dim, dim))

    def forward(self, action: Tensor) -> Tensor:
        """``[..., A]`` to ``[..., dim]``."""
        return self.net(self.mix(action))


class NormedProjection(nn.Module):
    """``Linear``, batch normalisation, GELU, ``Linear``: what is behind LeWorldModel's encoder, and its predictor.

    Args:
        dim: size of inputs.
        hidden: width in between.
        out: size of outputs; that of inputs if not given.
    """

    def __init__(self, dim: int, hidden: int, out: int | None = None) -> None:
        super().__init__()
        last = nn.Linear(hidden, dim if out is None else out)
        self.net = nn.Sequential(nn.Linear(dim, hidden), BatchNorm1d(hidden), nn.GELU(), last)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., D]``, of which all rows together are the batch, to ``[..., out]``."""
        return self.net(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)


class LeWMPredictor(Component):
    """The next frame's embedding at every frame of a window, the actions by adaptive norms (Maes et al., 2026).

    At first a block adds nothing, and the predictor gives the normalised embeddings with their positions.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "embed" | [*B, T, D] | float | read |
        | "action" | [*B, T, A] | float | read |
        | "predicted" | [*B, T, D] | float | written: at t, the embedding of t + 1 |

    Args:
        dim: D.
        action: A, numbers of an action: of all environment steps that a step of the model spans.
        frames: most frames of a window.
        mixed: see :class:`ActionEmbedding`.
        depth: number of blocks.
        heads: number of attention heads.
        head_dim: size of a head.
        hidden: width of the feed-forward.
        projection: hidden width of the last map, which normalises over the batch; it is in eval mode while planning.
        dropout: in attention, feed-forward and on the input.
        in_keys: embeddings, actions.
        out_keys: predicted embeddings.

    Raises:
        ValueError: on call, for more frames than a window has.

    Reference: Maes et al., LeWorldModel (2026), and stable-worldmodel.

    Example:
        >>> net = LeWMPredictor(8, 2, depth=1, heads=2, head_dim=4, hidden=16, projection=16)
        >>> net(torch.zeros(5, 3, 8), torch.zeros(5, 3, 2)).shape
        torch.Size([5, 3, 8])
    """

    def __init__(
        self,
        dim: int = 192,
        action: int = 10,
        *,
        frames: int = 3,
        mixed: int = 10,
        depth: int = 6,
        heads: int = 16,
        head_dim: int = 64,
        hidden: int = 2048,
        projection: int = 2048,
        dropout: float = 0.1,
        in_keys: Sequence[NestedKey] = ("embed", "action"),
        out_keys: Sequence[NestedKey] = ("predicted",),
    ) -> None:
        super().__init__(in_keys, out_keys)
        self.dim = dim
        self.action_encoder = ActionEmbedding(action, mixed, dim)
        self.positions = nn.Parameter(torch.randn(frames, dim))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            AdaptiveBlock(
                dim,
                dim,
                NormedAttention(
                    dim,
                    MultiHeadAttention(dim, heads, bias=False, out_bias=True, head_dim=head_dim, dropout=dropout),
                ),
                nn.Sequential(nn.LayerNorm(dim), FeedForward(dim, hidden, dropout=dropout)),
                lambda: nn.LayerNorm(dim, 1e-6, elementwise_affine=False),
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim)
        self.projection = NormedProjection(dim, projection)
        self.frames = frames

    def compute(self, embed: Tensor, action: Tensor) -> Tensor:
        """See the table of keys."""
        return self.projection(self.hidden(embed, self.action_encoder(action)))

    def hidden(self, embed: Tensor, action: Tensor) -> Tensor:
        """Before the last map.

        Args:
            embed: ``[*B, T, D]``.
            action: embedded, ``[*B, T, D]``.
        """
        if embed.shape[:-1] != action.shape[:-1]:
            raise ValueError(f"each frame has its own action; got {[*embed.shape]} and {[*action.shape]}.")
        lead, frames = embed.shape[:-2], embed.shape[-2]
        mask = frame_causal_mask(frames, 1, self.frames, embed.device)
        x = self.dropout(embed.reshape(-1, frames, self.dim) + self.positions[:frames])
        condition = action.reshape(-1, frames, self.dim)
        for block in self.blocks:
            x = block(x, condition, mask)
        return self.norm(x).view(*lead, frames, self.dim)
