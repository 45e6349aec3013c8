"""Room in a KV cache of learned positions: where all are used, the newest entries are read again from the first on."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from wmcomponents.dynamics.tokens.block_transformer import CacheBounds, is_free_to_look
from wmcomponents.functional.broadcast import aligned

ReadAgain = Callable[[Tensor, Tensor], None]
"""Reads entries ``[N, kept, dim]`` into a KV cache ``[N, ...]``, IN PLACE, from its first position on."""


def made_room(
    kv_cache: Float[Tensor, "n ..."],
    length: Int[Tensor, "n 1"],
    recent: Float[Tensor, "n kept dim"],
    due: Bool[Tensor, "n 1"],
    kept: int,
    read_again: ReadAgain,
) -> tuple[Int[Tensor, "n 1"], CacheBounds]:
    """Let rows that have no room read their newest entries again, into the KV cache, which is written IN PLACE.

    No row waits for the device: on an accelerator every row is read again and the ones that were due are kept, on a CPU
    only those that are due are read.

    Args:
        kv_cache: keys and values, positions last but one.
        length: positions in use.
        recent: the newest entries as the transformer was given them.
        due: which rows have no room.
        kept: positions that the newest entries take.
        read_again: reads them.

    Returns:
        The positions in use now, and bounds of them.
    """
    if is_free_to_look(length):
        rows = due.squeeze(-1).nonzero().squeeze(-1)
        if rows.numel() == length.shape[0]:
            read_again(recent, kv_cache)
        elif rows.numel():
            anew = kv_cache[rows]
            read_again(recent[rows], anew)
            kv_cache[rows] = anew
        length = torch.where(due, kept, length)
        return length, CacheBounds.of(length)
    held = kv_cache[..., :kept, :]
    short = held.clone()
    read_again(recent, short)
    held.copy_(torch.where(aligned(due, held), short, held))
    return torch.where(due, kept, length), CacheBounds()
