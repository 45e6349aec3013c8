"""Who sees whom in a long sequence, told by rules: the table of all pairs need not exist."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class SequenceMask:
    """What each position of a sequence may look at; every rule that is given must allow it.

    A mask of a million positions has 10^12 entries. These rules need a number a position at most, and any part of the
    table can be worked out alone.

    Attributes:
        block: positions of a block see each other and all blocks before; 1 is causal, a frame's length frame-causal.
            Without it the future is seen too.
        segments: number of the example that a position belongs to, integers ``[*B, T]``: it sees that example alone.
            By itself this hides no future.
        keys: which positions mean anything, bool ``[*B, T]``: nobody sees the others.

    Raises:
        ValueError: for a block without positions.

    Example:
        >>> SequenceMask(block=1, segments=torch.tensor([0, 0, 1])).table(3).int()
        tensor([[[1, 0, 0],
                 [1, 1, 0],
                 [0, 0, 1]]], dtype=torch.int32)
    """

    block: int | None = None
    segments: Int[Tensor, "*batch t"] | None = None
    keys: Bool[Tensor, "*batch t"] | None = None

    def __post_init__(self) -> None:
        if self.block is not None and self.block < 1:
            raise ValueError(f"a block has at least one position; got {self.block}.")

    @property
    def is_causal(self) -> bool:
        """Whether it says no more than that the future is hidden."""
        return self.block == 1 and self.segments is None and self.keys is None

    def check(self, length: int) -> None:
        """Refuse what is not about a sequence of this length.

        Raises:
            ValueError: if segments or keys have another length.
        """
        for name, value in (("segments", self.segments), ("keys", self.keys)):
            if value is not None and value.shape[-1] != length:
                raise ValueError(
                    f"{name} are told for every position of the whole sequence, {length}; got {value.shape[-1]}: give "
                    f"them in the sequence's own order, and whole, to every process."
                )

    def hides_all(self, queries: range, keys: range) -> bool:
        """Whether order alone hides all of some keys from all of some queries."""
        return self.block is not None and min(keys) // self.block > max(queries) // self.block

    def shows_all(self, queries: range, keys: range) -> bool:
        """Whether all of some queries see all of some keys, for sure."""
        is_ordered = self.block is None or max(keys) // self.block <= min(queries) // self.block
        return is_ordered and self.segments is None and self.keys is None

    def between(
        self, queries: range, keys: range, device: torch.device | str | None = None
    ) -> Bool[Tensor, "*batch q k"] | None:
        """The part of the table of some queries and keys, with a dimension for heads where rows differ.

        Args:
            queries: their positions in the sequence.
            keys: their positions in the sequence.
            device: of the table.

        Returns:
            ``[Q, K]`` or ``[*B, 1, Q, K]``, or None where all is seen.
        """
        if self.shows_all(queries, keys):
            return None
        q, k = (torch.arange(r.start, r.stop, r.step, device=device) for r in (queries, keys))
        seen = torch.ones(len(queries), len(keys), dtype=torch.bool, device=device)
        if self.block is not None:
            seen = (k // self.block) <= (q // self.block).unsqueeze(-1)
        if self.segments is not None:
            mine, theirs = self.segments[..., q], self.segments[..., k]
            seen = seen & (mine.unsqueeze(-1) == theirs.unsqueeze(-2)).unsqueeze(-3)
        if self.keys is not None:
            seen = seen & self.keys[..., k].unsqueeze(-2).unsqueeze(-3)
        return seen

    def table(self, length: int, device: torch.device | str | None = None) -> Bool[Tensor, "*batch t s"] | None:
        """The whole table of a sequence, as attention over all of it needs it; None where all is seen.

        Args:
            length: of the sequence.
            device: of the table.

        Raises:
            ValueError: if segments or keys have another length.
        """
        self.check(length)
        return self.between(range(length), range(length), device)
