"""Tokens of hidden patches out of those that are seen."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from wmcomponents.functional.patches import grid_coordinates
from wmcomponents.nn.attention.axial_rope import AxialRoPE
from wmcomponents.nn.vit.block import ViTBlock


class MaskedPredictor(nn.Module):
    """A narrow transformer over the seen tokens and a learned token for each place that is asked for.

    Places are told by a table, or by rotary positions of the blocks.

    Args:
        dim: size of the tokens that come and go.
        width: size of the tokens inside.
        blocks: one behind the other, of that width.
        grid: patches along each axis.
        table: positions ``[N, width]``, which stay as they are; none where the blocks rotate.
        mask_tokens: how many learned tokens there are, one for each kind of masks; at first 0.
        std: standard deviation of the first mask tokens, where not 0.
        eps: of the last layer norm.

    Raises:
        ValueError: if neither a table nor the blocks tell places, or the table has another number of them.

    Reference: Assran et al., I-JEPA (2023); Bardes et al., V-JEPA (2024).

    Example:
        >>> from wmcomponents.nn import ViTBlock, column_first_positions
        >>> net = MaskedPredictor(8, 4, [ViTBlock(4, 2, 16)], (2, 3), column_first_positions((2, 3), 4))
        >>> net(torch.zeros(1, 2, 8), torch.tensor([[0, 5]]), torch.tensor([[1, 2, 4]])).shape
        torch.Size([1, 3, 8])
    """

    table: Tensor | None
    coordinates: Tensor

    def __init__(
        self,
        dim: int,
        width: int,
        blocks: Sequence[ViTBlock],
        grid: Sequence[int],
        table: Float[Tensor, "n w"] | None = None,
        *,
        mask_tokens: int = 1,
        std: float = 0.0,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.rotates = any(isinstance(block.attention.rope, AxialRoPE) for block in blocks)
        if self.rotates == (table is not None):
            raise ValueError("places are told by a table or by rotary positions of the blocks, one of the two.")
        self.register_buffer("coordinates", grid_coordinates(grid), persistent=False)
        if table is not None and len(table) != len(self.coordinates):
            raise ValueError(f"a grid {tuple(grid)} has {len(self.coordinates)} places; got a table of {len(table)}.")
        self.grid = tuple(grid)
        self.embed = nn.Linear(dim, width)
        self.mask_tokens = nn.Parameter(torch.zeros(mask_tokens, width))
        if std:
            nn.init.trunc_normal_(self.mask_tokens, std=std)
        self.register_buffer("table", table)
        self.blocks = nn.ModuleList(blocks)
        self.norm, self.out = nn.LayerNorm(width, eps), nn.Linear(width, dim)

    def forward(
        self,
        context: Float[Tensor, "b k d"],
        context_index: Int[Tensor, "b k"],
        target_index: Int[Tensor, "b m"],
        kind: int = 0,
    ) -> Float[Tensor, "b m d"]:
        """Tokens of the places that are asked for, in their order.

        Args:
            context: the tokens that are seen.
            context_index: their places.
            target_index: places that are asked for.
            kind: which mask token stands for them, counted round and round.
        """
        seen = self.embed(context)
        asked = self.mask_tokens[kind % len(self.mask_tokens)].expand(*target_index.shape, -1)
        place: Tensor | None = None
        if self.table is None:
            place = self.coordinates[torch.cat([context_index, target_index], 1)]
        else:
            seen, asked = seen + self.table[context_index], asked + self.table[target_index]
        tokens = torch.cat([seen, asked], 1)
        for block in self.blocks:
            tokens = block(tokens, None, place)
        return self.out(self.norm(tokens[:, context.shape[1] :]))
