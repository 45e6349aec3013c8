"""Sequences as films of one length, each of which counts as long as one episode lasts."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from wmcomponents.objectives.arrivals import Arrivals


class Films(NamedTuple):
    """Pieces of sequences, each of which counts as long as one episode lasts.

    Attributes:
        pixels: ``[P, T, H, W, C]``.
        action: what led to each frame, ``[P, T, ...]``.
        is_led: whether that is known, bool ``[P, T]``: not where an episode begins, or the record does.
        reward: received on arriving at each frame, ``[P, T]``.
        terminated: whether each frame ended its episode, bool ``[P, T]``.
        weight: of each frame, ``[P, T]``; 0 in padding and behind the end of an episode.
        present: which frames are of the film, bool ``[P, T]``: all up to the end of an episode, the first always.
        text: that was said at the first frame, ``[P, ...]``; ``None`` where there is none.
    """

    pixels: Tensor
    action: Tensor
    is_led: Tensor
    reward: Tensor
    terminated: Tensor
    weight: Tensor
    present: Tensor
    text: Tensor | None = None


def films_from(arrivals: Arrivals, key: str, length: int, text_key: str | None = None) -> Films:
    """Sequences side by side in pieces of one length; what is left over is not used.

    Args:
        arrivals: ``[B, L]`` of them.
        key: of the image.
        length: of a film, at most; shorter where sequences are.
        text_key: of the text; ``None`` where there is none.
    """
    rows, frames = arrivals.weight.shape
    length = min(length, frames)
    count = frames // length

    def cut(value: Tensor) -> Tensor:
        return value[:, : count * length].reshape(rows * count, length, *value.shape[2:])

    real, first = cut(arrivals.real), cut(arrivals.is_init.squeeze(-1))
    ends = (first | ~real)[:, 1:].cumsum(1) > 0
    present = F.pad(~ends, (1, 0), value=True)
    weight = cut(arrivals.weight) * present * real[:, :1]
    return Films(
        cut(arrivals.observation[key]),
        cut(arrivals.action),
        cut(arrivals.reward_known.squeeze(-1)) & ~first & real,
        cut(arrivals.reward.squeeze(-1)),
        cut(arrivals.terminated.squeeze(-1)),
        weight,
        present,
        None if text_key is None else cut(arrivals.observation[text_key])[:, 0],
    )
