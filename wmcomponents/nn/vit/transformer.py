"""A vision transformer: tokens of an image or a clip."""

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from wmcomponents.functional.patches import grid_coordinates, take_tokens
from wmcomponents.nn.attention.axial_rope import AxialRoPE
from wmcomponents.nn.vit.block import ViTBlock
from wmcomponents.nn.vit.grid_positions import GridPositions
from wmcomponents.nn.vit.patch_embedding import PatchEmbedding


class VisionTransformer(nn.Module):
    """Patches as tokens, with their positions, through blocks, and a last layer norm.

    It is put together from its parts; :mod:`wmcomponents.nn.vit.layouts` puts those of the papers together.

    Args:
        patches: makes tokens.
        blocks: one behind the other; those with rotary positions have them along the axes of the patches.
        positions: added to the tokens; none where the blocks rotate.
        class_token: whether a learned token stands before the patches.
        registers: further learned tokens between the class token and the patches, without positions.
        eps: of the last layer norm.

    Raises:
        ValueError: if the positions do not have one for the class token, or for none.

    Reference: Dosovitskiy et al., ViT (2021); Darcet et al., Vision Transformers Need Registers (2024).

    Example:
        >>> from wmcomponents.nn import LearnedGridPositions, PatchEmbedding, ViTBlock
        >>> patches, blocks = PatchEmbedding(3, 8, (4, 4)), [ViTBlock(8, 2, 32)]
        >>> net = VisionTransformer(patches, blocks, LearnedGridPositions((2, 2), 8, prefix=1), class_token=True)
        >>> net(torch.zeros(1, 3, 8, 8)).shape, net(torch.zeros(1, 3, 8, 12), torch.tensor([[0, 5]])).shape
        (torch.Size([1, 5, 8]), torch.Size([1, 3, 8]))
    """

    def __init__(
        self,
        patches: PatchEmbedding,
        blocks: Sequence[ViTBlock],
        positions: GridPositions | None = None,
        *,
        class_token: bool = False,
        registers: int = 0,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        if positions is not None and positions.prefix != int(class_token):
            raise ValueError(
                f"the class token has a position of its own; got {int(class_token)} class tokens and positions for "
                f"{positions.prefix} tokens before the patches."
            )
        self.dim = patches.dim
        self.patches, self.positions = patches, positions
        self.class_token = nn.Parameter(torch.zeros(1, self.dim)) if class_token else None
        self.registers = nn.Parameter(torch.zeros(registers, self.dim)) if registers else None
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(self.dim, eps)
        for token in (self.class_token, self.registers):
            if token is not None:
                nn.init.normal_(token, std=0.02)

    @property
    def prefix(self) -> int:
        """How many tokens stand before the patches."""
        return sum(len(token) for token in (self.class_token, self.registers) if token is not None)

    @property
    def rotates(self) -> bool:
        """Whether blocks have rotary positions."""
        return any(isinstance(cast(ViTBlock, block).attention.rope, AxialRoPE) for block in self.blocks)

    def forward(self, x: Float[Tensor, "b c *size"], keep: Int[Tensor, "b k"] | None = None) -> Float[Tensor, "b n d"]:
        """Tokens of images ``[B, C, H, W]`` or clips ``[B, C, T, H, W]``: class token, registers, patches.

        Args:
            x: images or clips, of any size that patches fill.
            keep: the patches of each row that are looked at, by number; all if not given. The others are dropped
                before the first block.

        Raises:
            ValueError: if the input has other axes or channels, or patches do not fill it.
        """
        return self.norm(self.hidden(x, keep))

    def hidden(self, x: Float[Tensor, "b c *size"], keep: Int[Tensor, "b k"] | None = None) -> Float[Tensor, "b n d"]:
        """As :meth:`forward`, before the last layer norm."""
        grid = self.patches.grid_of(x)
        tokens = self.patches(x)
        before, at = (None, None) if self.positions is None else self.positions(grid)
        tokens = tokens if at is None else tokens + at
        place = grid_coordinates(grid, x.device) if self.rotates else None
        if keep is not None:
            tokens = take_tokens(tokens, keep)
            place = None if place is None else place[keep]
        heads = [] if self.class_token is None else [self.class_token + (before if before is not None else 0)]
        heads += [] if self.registers is None else [self.registers]
        if heads:
            tokens = torch.cat([*(head.expand(len(x), -1, -1) for head in heads), tokens], 1)
            # Tokens without a place are not turned.
            place = None if place is None else nn.functional.pad(place, (0, 0, self.prefix, 0))
        for block in self.blocks:
            tokens = block(tokens, None, place)
        return tokens
