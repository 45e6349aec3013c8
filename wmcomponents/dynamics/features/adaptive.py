"""jepa-wms' predictor: features of patches of a few frames, through blocks whose norms the actions set."""

from collections.abc import Sequence

import torch
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.component import Component
from wmcomponents.dynamics.features.window import one_batch
from wmcomponents.functional.patches import grid_coordinates
from wmcomponents.nn import AdaptiveBlock, FeedForward, MultiHeadAttention, TiledAxialRoPE, frame_causal_mask


class AdaptiveFramePredictor(Component):
    """The next frame's features at every frame of a window, the actions by adaptive norms (Terver et al., 2025).

    Embedded proprioception, if there is any, stands behind the channels of every patch once these are brought to the
    predictor's width; it comes out as the last layer norm leaves it.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "embed" | [*B, T, N, D] | float | read |
        | "action" | [*B, T, A] | float | read |
        | "proprio" | [*B, T, P], or [*B, T, N, P] | float | read, where ``proprio`` is not 0 |
        | "predicted" | [*B, T, N, D] | float | written: at t, the features of t + 1 |
        | "predicted_proprio" | [*B, T, N, P] | float | written: the embedded proprioception of t + 1, patch by patch |

    Args:
        grid: rows and columns of patches.
        features: D.
        action: A, numbers of an action: of all environment steps that a step of the model spans.
        proprio: P, size of the embedded proprioception; 0 for none.
        frames: most frames of a window.
        width: of the predictor, without the proprioception.
        depth: number of blocks.
        heads: number of attention heads.
        mlp_ratio: the feed-forward's width over the token's.
        std: standard deviation of the first weights that set the norms; they do not begin at 0.
        in_keys: features, action, and proprioception where there is any.
        out_keys: predicted features, and proprioception where there is any.

    Raises:
        ValueError: on call, for more frames than a window has, or frames that do not fit together.

    Reference: Terver et al., What Drives Success in Physical Planning with Joint-Embedding Predictive World Models?
    (2025), and its code.

    Example:
        >>> net = AdaptiveFramePredictor((2, 2), 8, 3, frames=2, width=24, depth=1, heads=2)
        >>> net(torch.zeros(5, 2, 4, 8), torch.zeros(5, 2, 3)).shape
        torch.Size([5, 2, 4, 8])
    """

    def __init__(
        self,
        grid: Sequence[int],
        features: int,
        action: int,
        *,
        proprio: int = 0,
        frames: int = 4,
        width: int = 384,
        depth: int = 6,
        heads: int = 16,
        mlp_ratio: float = 4.0,
        std: float = 0.2,
        in_keys: Sequence[NestedKey] = ("embed", "action", "proprio"),
        out_keys: Sequence[NestedKey] = ("predicted", "predicted_proprio"),
    ) -> None:
        kept = 3 if proprio else 2
        super().__init__(in_keys[:kept], out_keys[: kept - 1])
        dim, self.width, self.proprio = width + proprio, width, proprio
        rope = TiledAxialRoPE(dim // heads)
        self.embed, self.action_encoder = nn.Linear(features, width), nn.Linear(action, dim)
        self.blocks = nn.ModuleList(
            AdaptiveBlock(
                dim,
                dim,
                MultiHeadAttention(dim, heads, rope=rope),
                FeedForward(dim, int(dim * mlp_ratio)),
                lambda: nn.LayerNorm(dim, 1e-6),
            )
            for _ in range(depth)
        )
        self.norm, self.out = nn.LayerNorm(dim, 1e-6), nn.Linear(width, features)
        for name, weight in self.named_parameters():
            if name.endswith("weight") and weight.ndim == 2:
                nn.init.trunc_normal_(weight, std=std if "modulation" in name else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)
        rows, columns = grid
        self.frames = frames
        self.register_buffer("place", grid_coordinates((frames, rows, columns)), persistent=False)

    place: Tensor

    def compute(self, embed: Tensor, action: Tensor, proprio: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """See the table of keys."""
        lead, (x, condition, beside) = one_batch(embed, action, proprio)
        assert x is not None and condition is not None
        frames, patches = x.shape[1:3]
        mask = frame_causal_mask(frames, patches, self.frames, x.device)
        x = self.embed(x)
        if beside is not None:
            beside = beside.unsqueeze(2) if beside.ndim == 3 else beside
            x = torch.cat([x, beside.expand(-1, -1, patches, -1)], -1)
        x = x.flatten(1, 2)
        condition = self.action_encoder(condition).repeat_interleave(patches, 1)
        for block in self.blocks:
            x = block(x, condition, mask, self.place[: x.shape[1]])
        x = self.norm(x).view(*lead, frames, patches, -1)
        visual, rest = x.split([self.width, self.proprio], -1)
        predicted = self.out(visual)
        return (predicted, rest) if self.proprio else predicted
