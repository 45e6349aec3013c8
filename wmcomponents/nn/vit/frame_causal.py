"""A transformer over the tokens of several frames, each of which sees its own frame and those before it."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wmcomponents.functional.masks import block_causal_mask
from wmcomponents.nn.vit.block import ViTBlock


def frame_causal_mask(frames: int, tokens: int, most: int, device: torch.device) -> Float[Tensor, "l l"] | None:
    """The mask under which each frame sees itself and those before it, as numbers to add to the logits.

    It is made once for all layers, and not kept: what is made here is far less than what attention makes of it.

    Args:
        frames: of the window.
        tokens: of a frame.
        most: frames that a window may have.
        device: of the mask.

    Returns:
        None for a single frame, which sees all of itself.

    Raises:
        ValueError: for more frames than there may be, or none.
    """
    if not 1 <= frames <= most:
        raise ValueError(f"a window has 1 to {most} frames; got {frames}: cut it to the last of them.")
    if frames == 1:
        return None
    seen = block_causal_mask(frames * tokens, tokens, device)
    return torch.zeros(seen.shape, device=device).masked_fill_(~seen, float("-inf"))


class FrameCausalTransformer(nn.Module):
    """Learned positions, then blocks in which frames see themselves and those before; a last layer norm.

    The output at a frame is what follows it. There is no output map: every channel is normalised with the others.

    Args:
        frames: most frames.
        tokens: of a frame.
        dim: size of a token.
        depth: number of blocks.
        heads: number of attention heads.
        head_dim: size of a head.
        hidden: width of the feed-forward.
        dropout: in every block.

    Reference: Zhou et al., DINO-WM (2025), and its code.

    Example:
        >>> net = FrameCausalTransformer(3, 4, 8, depth=1, heads=2, head_dim=4, hidden=16)
        >>> net(torch.zeros(5, 2, 4, 8)).shape
        torch.Size([5, 2, 4, 8])
    """

    def __init__(
        self,
        frames: int,
        tokens: int,
        dim: int,
        *,
        depth: int = 6,
        heads: int = 16,
        head_dim: int = 64,
        hidden: int = 2048,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(frames * tokens, dim))
        self.blocks = nn.ModuleList(
            ViTBlock(dim, heads, hidden, eps=1e-5, head_dim=head_dim, qkv_bias=False, dropout=dropout)
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim, 1e-5)
        self.frames, self.tokens = frames, tokens

    def forward(self, x: Float[Tensor, "*batch t n d"]) -> Float[Tensor, "*batch t n d"]:
        """What follows each frame.

        Args:
            x: tokens of up to as many frames as it was built for.

        Raises:
            ValueError: for more frames, or frames of another number of tokens.
        """
        frames, tokens = x.shape[-3:-1]
        if tokens != self.tokens:
            raise ValueError(f"frames have {self.tokens} tokens; got {tokens}.")
        mask, y = frame_causal_mask(frames, tokens, self.frames, x.device), x.flatten(-3, -2)
        y = y + self.positions[: frames * tokens]
        for block in self.blocks:
            y = block(y, mask)
        return self.norm(y).view(x.shape)
