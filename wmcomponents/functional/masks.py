"""Which positions of a sequence may look at which: masks of attention, true where looking is allowed."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def causal_mask(length: int, device: torch.device | str | None = None) -> Bool[Tensor, "t t"]:
    """Every position sees itself and those before it; row: who looks, column: at whom."""
    return block_causal_mask(length, 1, device)


def block_causal_mask(length: int, block: int, device: torch.device | str | None = None) -> Bool[Tensor, "t t"]:
    """Every position sees its own block, whole, and all blocks before it.

    Args:
        length: number of positions; the last block may be cut off.
        block: positions in a block.
        device: of the mask.
    """
    position = torch.arange(length, device=device)
    return visible(position, length, block)


def visible(position: Int[Tensor, "*batch t"], length: int, block: int = 1) -> Bool[Tensor, "*batch t s"]:
    """Which of the first ``length`` positions of a sequence may be seen from given ones.

    Args:
        position: of those who look, int64; each row of a batch may stand elsewhere.
        length: s, how many positions are there to be seen.
        block: positions in a block, which see each other; 1 is causal.
    """
    if block < 1:
        raise ValueError(f"a block has at least one position; got {block}.")
    seen = torch.arange(length, device=position.device)
    if block > 1:
        position = (position // block + 1) * block - 1  # the last one of its own block
    return seen <= position.unsqueeze(-1)


def slot_positions(start: int, length: int, block: int, slots: tuple[int, ...]) -> list[int]:
    """Where certain slots of repeating blocks lie in a piece of a sequence, counted from the piece's beginning.

    Args:
        start: position in the sequence at which the piece begins.
        length: of the piece.
        block: positions in a block.
        slots: places inside a block, 0 to ``block - 1``.

    Raises:
        ValueError: for a slot outside the block.

    >>> slot_positions(3, 6, block=4, slots=(0, 3))
    [0, 1, 4, 5]
    """
    if any(not 0 <= slot < block for slot in slots):
        raise ValueError(f"the slots of a block of {block} are 0 to {block - 1}; got {slots}.")
    return [i for i in range(length) if (start + i) % block in slots]
