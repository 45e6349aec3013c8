"""Several examples in one sequence: where each goes, and how much each of its targets counts."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Packed(NamedTuple):
    """Examples behind one another in rows of one length.

    Attributes:
        index: which entry of all examples, laid end to end, stands at a place, int64 ``[R, T]``; 0 in padding.
        segments: number of the example in its row, from 1, int64 ``[R, T]``; 0 in padding.
        position: in its example, int64 ``[R, T]``.
    """

    index: Tensor
    segments: Tensor
    position: Tensor


def packed(lengths: Sequence[int], length: int) -> Packed:
    """Lay examples into as few rows as first-fit finds, the longest first; none is cut.

    Attention keeps them apart by their segments (``SequenceMask(block=1, segments=..., keys=segments > 0)``).

    Args:
        lengths: of the examples.
        length: T, of a row.

    Raises:
        ValueError: for an example without entries, or one that is longer than a row.

    Reference: Liu et al., LWM (2024), masked sequence packing.

    Example:
        >>> packed([2, 3, 1], 4).segments
        tensor([[1, 1, 1, 2],
                [1, 1, 0, 0]])
    """
    if not lengths or min(lengths) < 1 or max(lengths) > length:
        raise ValueError(f"examples have 1 to {length} entries, as a row has; got {list(lengths)}: cut the long ones.")
    starts = torch.tensor([0, *lengths]).cumsum(0).tolist()
    rows: list[list[int]] = []
    room: list[int] = []
    for example in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        row = next((number for number, left in enumerate(room) if left >= lengths[example]), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(length)
        rows[row].append(example)
        room[row] -= lengths[example]
    found = torch.zeros(3, len(rows), length, dtype=torch.int64)
    for number, row in enumerate(rows):
        place = 0
        for segment, example in enumerate(row, 1):
            count = lengths[example]
            there = slice(place, place + count)
            found[0, number, there] = torch.arange(starts[example], starts[example] + count)
            found[1, number, there] = segment
            found[2, number, there] = torch.arange(count)
            place += count
    return Packed(*found.unbind(0))


def example_weights(segments: Int[Tensor, "rows t"], weight: Float[Tensor, "rows t"]) -> Float[Tensor, "rows t"]:
    r"""Weights under which every packed example counts as much as any other, however many targets it has.

    The weighted mean over all targets is then the mean over examples of each example's own mean, as it is of examples
    that are padded instead of packed.

    .. math:: w'_i = w_i / \sum_{j \in e(i)} w_j

    Args:
        segments: number of the example in its row, int64 from 0 to T.
        weight: of each target within its example; 0 where there is none.

    Returns:
        Weights whose sum is the number of examples that have a target.

    Reference: Liu et al., LWM (2024), masked sequence packing.

    Example:
        >>> example_weights(torch.tensor([[1, 1, 2, 0]]), torch.tensor([[1.0, 1.0, 1.0, 0.0]]))
        tensor([[0.5000, 0.5000, 1.0000, 0.0000]])
    """
    total = weight.new_zeros(segments.shape[0], segments.shape[1] + 1).scatter_add_(1, segments, weight)
    own = total.gather(1, segments)
    return torch.where(own > 0, weight / own, 0.0)
