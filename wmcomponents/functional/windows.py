"""The last few entries of a sequence, as each of its steps sees them."""

import torch
from torch import Tensor

from wmcomponents.functional.broadcast import aligned, keep_where


def windows_along(past: Tensor, new: Tensor, real: Tensor, time: int, blank: Tensor | None = None) -> Tensor:
    """The last entries at each step of a sequence, ``[*B, T, k, ...]``.

    Args:
        past: before it, ``[*B, k, ...]``.
        new: along it, ``[*B, T, ...]``.
        real: how many of the k there are at each step, ``[*B, T, 1]``.
        time: number of ``*B``.
        blank: what stands for the others; zero if not given.
    """
    k, steps = past.shape[time], new.shape[time]
    track = torch.cat([past, new], time)
    places = torch.arange(steps, device=new.device)[:, None] + torch.arange(1, k + 1, device=new.device)
    windows = track.index_select(time, places.flatten()).unflatten(time, (steps, k))
    known = torch.arange(k, device=new.device) >= k - real  # (*B, T, k)
    return keep_where(windows, known) if blank is None else torch.where(aligned(known, windows), windows, blank)
