"""How a sequence is shared out among processes: in a row, in stripes, or in a zigzag."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Int
from torch import Tensor


class SequenceLayout(ABC):
    """Which positions of a sequence each process holds; all hold equally many.

    Under a causal mask the first positions see little and the last see much: where each process holds one piece, the
    last one works for longest and the others wait for it. The other layouts give every process of both.
    """

    def divisor(self, ranks: int) -> int:
        """What divides the length of a sequence that so many processes can share."""
        return ranks

    def ranges(self, rank: int, ranks: int, length: int) -> tuple[range, ...]:
        """The positions that a process holds, in the order in which it holds them.

        Args:
            rank: number of the process.
            ranks: number of processes.
            length: of the whole sequence.

        Raises:
            ValueError: if the sequence cannot be shared evenly.
        """
        if length < 1 or length % self.divisor(ranks):
            raise ValueError(
                f"{type(self).__name__} shares a sequence evenly among {ranks} processes, in pieces of "
                f"1/{self.divisor(ranks)}: its length is a multiple of {self.divisor(ranks)}; got {length}. Pad it and "
                f"hide the padding (SequenceMask.keys), or choose another number of processes."
            )
        return self._ranges(rank, ranks, length)

    @abstractmethod
    def _ranges(self, rank: int, ranks: int, length: int) -> tuple[range, ...]:
        """The same of a length that can be shared."""

    def positions(
        self, rank: int, ranks: int, length: int, device: torch.device | str | None = None
    ) -> Int[Tensor, " t"]:
        """Positions in the sequence of what a process holds, int64 ``[T / ranks]``: what rotary positions need.

        Args:
            rank: number of the process.
            ranks: number of processes.
            length: T, of the whole sequence.
            device: of the tensor.

        Raises:
            ValueError: if the sequence cannot be shared evenly.
        """
        held = self.ranges(rank, ranks, length)
        return torch.cat([torch.arange(r.start, r.stop, r.step, device=device) for r in held])

    def order(self, ranks: int, length: int, device: torch.device | str | None = None) -> Int[Tensor, " t"]:
        """The permutation after which each process's positions lie in one piece: ``x[..., order]``, int64 ``[T]``.

        Args:
            ranks: number of processes.
            length: T, of the whole sequence.
            device: of the tensor.

        Raises:
            ValueError: if the sequence cannot be shared evenly.

        Example:
            >>> ZigzagLayout().order(2, 8)
            tensor([0, 1, 6, 7, 2, 3, 4, 5])
        """
        return torch.cat([self.positions(rank, ranks, length, device) for rank in range(ranks)])

    def inverse(self, ranks: int, length: int, device: torch.device | str | None = None) -> Int[Tensor, " t"]:
        """The permutation that undoes :meth:`order`, int64 ``[T]``.

        Args:
            ranks: number of processes.
            length: T, of the whole sequence.
            device: of the tensor.

        Raises:
            ValueError: if the sequence cannot be shared evenly.
        """
        return self.order(ranks, length, device).argsort()


class ContiguousLayout(SequenceLayout):
    """One piece after the other: rank i holds positions ``[i T / N, (i + 1) T / N)``.

    Reference: Liu, Zaharia and Abbeel, Ring Attention with Blockwise Transformers (2023).
    """

    def _ranges(self, rank: int, ranks: int, length: int) -> tuple[range, ...]:
        share = length // ranks
        return (range(rank * share, (rank + 1) * share),)


class StripedLayout(SequenceLayout):
    """Every N-th position: rank i holds i, i + N, i + 2 N ...

    Reference: Brandon et al., Striped Attention (2023).
    """

    def _ranges(self, rank: int, ranks: int, length: int) -> tuple[range, ...]:
        return (range(rank, length, ranks),)


class ZigzagLayout(SequenceLayout):
    """A piece from the front and its mirror from the back: of 2 N pieces rank i holds i and 2 N - 1 - i.

    Reference: the layout of Llama 3's context parallelism (Dubey et al., 2024, section 3.3.2).
    """

    def divisor(self, ranks: int) -> int:
        """Two pieces a process."""
        return 2 * ranks

    def _ranges(self, rank: int, ranks: int, length: int) -> tuple[range, ...]:
        share = length // (2 * ranks)
        mirror = 2 * ranks - 1 - rank
        return range(rank * share, (rank + 1) * share), range(mirror * share, (mirror + 1) * share)
