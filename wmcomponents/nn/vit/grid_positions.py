"""A vector for each place of a grid of patches, learned or fixed, for grids of other sizes too."""

import math
from abc import ABC
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wmcomponents.functional.patches import resample_grid


class GridPositions(nn.Module, ABC):
    """Base of tables of positions: those of the tokens that stand before the patches, then one for each patch.

    Args:
        grid: patches along each axis.
        prefix: tokens before the patches that have a position of their own.
        antialias: how the table is read on a smaller grid, see :func:`wmcomponents.functional.resample_grid`.
        offset: likewise.
    """

    table: Tensor

    def __init__(self, grid: Sequence[int], prefix: int, antialias: bool, offset: float) -> None:
        super().__init__()
        self.grid, self.prefix, self.antialias, self.offset = tuple(grid), prefix, antialias, offset

    def forward(self, grid: Sequence[int]) -> tuple[Float[Tensor, "p d"], Float[Tensor, "n d"]]:
        """Positions of the tokens before the patches, and of the patches of a grid, interpolated if it is another one.

        Raises:
            ValueError: if the grid has other axes.
        """
        before, patches = self.table.split([self.prefix, len(self.table) - self.prefix])
        return before, resample_grid(patches, self.grid, grid, antialias=self.antialias, offset=self.offset)


class LearnedGridPositions(GridPositions):
    """A table that is learned, at first normal with a standard deviation of 0.02.

    Args:
        grid: patches along each axis.
        dim: size of a vector.
        prefix: tokens before the patches that have a position of their own.
        antialias: see :class:`GridPositions`.
        offset: see :class:`GridPositions`.
    """

    def __init__(
        self, grid: Sequence[int], dim: int, *, prefix: int = 0, antialias: bool = False, offset: float = 0.0
    ) -> None:
        super().__init__(grid, prefix, antialias, offset)
        self.table = nn.Parameter(nn.init.trunc_normal_(torch.empty(prefix + math.prod(grid), dim), std=0.02))


class FixedGridPositions(GridPositions):
    """A table that stays as it is, such as sines and cosines; zeros for the tokens before the patches.

    Args:
        patches: one vector a patch, ``[N, D]``.
        grid: patches along each axis.
        prefix: tokens before the patches.
        antialias: see :class:`GridPositions`.

    Raises:
        ValueError: if the vectors are not as many as the patches.
    """

    def __init__(
        self, patches: Float[Tensor, "n d"], grid: Sequence[int], *, prefix: int = 0, antialias: bool = False
    ) -> None:
        super().__init__(grid, prefix, antialias, 0.0)
        if len(patches) != math.prod(grid):
            raise ValueError(f"a grid {tuple(grid)} has {math.prod(grid)} positions; got {len(patches)}.")
        self.register_buffer("table", torch.cat([patches.new_zeros(prefix, patches.shape[1]), patches]))
