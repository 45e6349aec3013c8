"""Windows of a film that fill up from the front, each row as far as it has come, and then move on."""

import torch
from jaxtyping import Int, Shaped
from torch import Tensor


def with_room(
    window: Shaped[Tensor, "n w *event"], filled: Int[Tensor, "n 1"], room: int = 1
) -> Shaped[Tensor, "n w *event"]:
    """Windows with room for more behind what fills them; the oldest leave where there was none.

    What stands in the room is of no meaning.

    Args:
        window: oldest first.
        filled: how many of each row's mean anything.
        room: for how many, at most w.
    """
    length = window.shape[1]
    place = torch.arange(length, device=window.device) + (filled + room - length).clamp_min(0)
    return window[torch.arange(len(window), device=window.device)[:, None], place.clamp_max(length - 1)]


def place_of(filled: Int[Tensor, "n 1"], length: int, room: int = 1) -> Int[Tensor, "n 1"]:
    """Where the room of :func:`with_room` begins.

    Args:
        filled: before.
        length: of the windows.
        room: for how many.
    """
    return filled.clamp_max(length - room)


def put_at(
    window: Shaped[Tensor, "n w *event"], new: Shaped[Tensor, "n k *event"], place: Int[Tensor, "n 1"]
) -> Shaped[Tensor, "n w *event"]:
    """Windows with something new in them; nothing is changed in place.

    Args:
        window: what is there.
        new: what comes.
        place: where the first of it stands.
    """
    at = place + torch.arange(new.shape[1], device=window.device)
    rows = torch.arange(len(window), device=window.device)[:, None]
    return window.index_put((rows, at), new.to(window.dtype))


def stands_at(window: Shaped[Tensor, "n w *event"], place: Int[Tensor, "n 1"]) -> Shaped[Tensor, " n *event"]:
    """What stands at a place of each row.

    Args:
        window: what is there.
        place: of each row.
    """
    return window[torch.arange(len(window), device=window.device), place.squeeze(-1)]


def part_at(
    window: Shaped[Tensor, "n w *event"], place: Int[Tensor, "n 1"], length: int
) -> Shaped[Tensor, "n k *event"]:
    """So many that stand behind one another from a place of each row on.

    Args:
        window: what is there.
        place: of the first.
        length: how many, K.
    """
    at = place + torch.arange(length, device=window.device)
    return window[torch.arange(len(window), device=window.device)[:, None], at]


def newest(window: Shaped[Tensor, "n w *event"], count: Int[Tensor, "n 1"], many: int) -> Shaped[Tensor, "n m *event"]:
    """The last of what fills windows; where that is less, its oldest stands for what came before it.

    Args:
        window: oldest first.
        count: how many of each row's mean anything.
        many: m, how many are wanted.
    """
    place = (count - many + torch.arange(many, device=window.device)).clamp_min(0)
    return window[torch.arange(len(window), device=window.device)[:, None], place]
