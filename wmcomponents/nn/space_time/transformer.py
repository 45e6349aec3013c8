"""A transformer over the tokens of a film: whole films, or one more frame behind frames that it has read."""

from collections.abc import Sequence
from typing import Any, cast

from jaxtyping import Float, Int
from torch import Tensor, nn

from wmcomponents.nn.space_time.block import STBlock
from wmcomponents.nn.space_time.positions import FilmPositions


class STTransformer(nn.Module):
    """A map into the blocks, positions, the blocks, a map out of them. No frame sees those behind it.

    Args:
        map_in: of each token, or of whole films ``[B, T, N, D_in]``.
        positions: added behind it.
        blocks: such as those of :func:`wmcomponents.nn.space_time.block.genie_block`.
        map_out: of each token, or of whole films.

    Reference: Bruce et al., Genie: Generative Interactive Environments (2024), section 2; Xu et al.,
    Spatial-Temporal Transformer Networks (2020).

    Example:
        >>> import torch
        >>> from wmcomponents.nn.space_time.block import genie_block
        >>> from wmcomponents.nn.space_time.positions import LearnedFilmPositions
        >>> positions, blocks = LearnedFilmPositions(4, 2, 8), [genie_block(8, 2, 16)]
        >>> net = STTransformer(nn.Linear(3, 8), positions, blocks, nn.Linear(8, 5))
        >>> x = torch.randn(1, 4, 2, 3)
        >>> past, place = net.remember(x[:, :3]), torch.tensor([[3]])
        >>> torch.allclose(net.follow(x[:, 3], past, place), net(x)[:, 3], atol=1e-6)
        True
    """

    def __init__(
        self, map_in: nn.Module, positions: FilmPositions, blocks: Sequence[STBlock], map_out: nn.Module
    ) -> None:
        super().__init__()
        self.map_in, self.positions, self.map_out = map_in, positions, map_out
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Float[Tensor, "b t n i"]) -> Float[Tensor, "b t n o"]:
        """What is made of a whole film.

        Raises:
            ValueError: for more frames than there may be, or frames of another number of tokens.
        """
        x = self.positions(self.map_in(x))
        for block in self.blocks:
            x = block(x)
        return self.map_out(x)

    def remember(self, x: Float[Tensor, "b t n i"]) -> list[list[Any]]:
        """What :meth:`follow` needs of the frames of the past, for each block."""
        x, kept = self.positions(self.map_in(x)), []
        for block in self.blocks:
            x, past = cast(STBlock, block).remember(x)
            kept.append(past)
        return kept

    def follow(
        self, x: Float[Tensor, "b n i"], past: list[list[Any]], place: Int[Tensor, "b 1"]
    ) -> Float[Tensor, "b n o"]:
        """What is made of one more frame, as :meth:`forward` would at the end of the film.

        Args:
            x: the frame.
            past: as :meth:`remember` gave it, of as many frames as the rows have at most.
            place: of the frame, which is also how many of these frames are each row's own; the rest is not looked at.
        """
        x = self.map_in(x.unsqueeze(1)).squeeze(1) + self.positions.at(place.squeeze(-1))
        for block, kept in zip(self.blocks, past, strict=True):
            x = cast(STBlock, block).follow(x, kept, place)
        return self.map_out(x.unsqueeze(1)).squeeze(1)

    def extend(
        self, x: Float[Tensor, "b n i"], past: list[list[Any]], place: Int[Tensor, "b 1"]
    ) -> list[Float[Tensor, "b n k"]]:
        """What frames behind one more frame need of it, of the branches that keep anything; see :meth:`pack`.

        Args:
            x: the frame.
            past: as for :meth:`follow`.
            place: likewise.
        """
        x, own = self.map_in(x.unsqueeze(1)).squeeze(1) + self.positions.at(place.squeeze(-1)), []
        for block, kept in zip(self.blocks, past, strict=True):
            x, pieces = cast(STBlock, block).extend(x, kept, place)
            own += pieces
        return own

    def pack(self, past: list[list[Any]]) -> list[Float[Tensor, "b p n k"]]:
        """What :meth:`remember` gave, as numbers of each token of each frame; of the branches that keep any."""
        return [
            piece for block, kept in zip(self.blocks, past, strict=True) for piece in cast(STBlock, block).pack(kept)
        ]

    def unpack(self, pieces: Sequence[Float[Tensor, "b p n k"]]) -> list[list[Any]]:
        """What :meth:`pack` packed, as :meth:`follow` reads it."""
        rest = iter(pieces)
        return [cast(STBlock, block).unpack(rest) for block in self.blocks]
