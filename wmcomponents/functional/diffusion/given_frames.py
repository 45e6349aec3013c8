"""Which frames of a film are given in training, so that one network begins, goes on with, ends and joins films."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

GIVEN = (
    *("past", "random", "interpolate", "quarter_random", "quarter_head", "quarter_tail", "quarter_head_tail"),
    *("image_random", "image_head", "image_tail", "image_head_tail"),
)
"""Kinds of frames that are given: the past up to some frame; each by chance; every second; and up to a quarter of the
film, or a single one, anywhere, at its head, at its tail, or at both."""


def given_frames(
    shares: Sequence[float], choice: Float[Tensor, " n"], place: Float[Tensor, "n 2"], chance: Float[Tensor, "n t"]
) -> Bool[Tensor, "n t"]:
    """Frames that are given of n films, of kinds that are drawn.

    Args:
        shares: how often each kind of :data:`GIVEN` is drawn; nothing is given in the rest.
        choice: uniform numbers, which choose the kind.
        place: likewise, which choose how many frames and where.
        chance: likewise, of every frame, for ``"random"``; a share of 0.1 to 0.9 of the frames is given then.

    Raises:
        ValueError: if there are not as many shares as kinds, one is negative, or they are more than 1 together.

    Reference: Zheng et al., Open-Sora (2024), section on masking, and its code, 1.2. ``"past"`` is not there: it gives
    any number of first frames, as a world is asked for.

    Example:
        >>> head = [float(kind == "image_head") for kind in GIVEN]
        >>> given_frames(head, torch.zeros(1), torch.zeros(1, 2), torch.zeros(1, 5))
        tensor([[ True, False, False, False, False]])
    """
    if len(shares) != len(GIVEN) or min(shares) < 0.0 or sum(shares) > 1.0 + 1e-6:
        raise ValueError(
            f"the shares are of {', '.join(GIVEN)}: at least 0 each, at most 1 together; got {list(shares)}."
        )
    frames = chance.shape[1]
    first, second = place.unsqueeze(1).unbind(-1)
    at = torch.arange(frames, device=chance.device)

    def count(most: int) -> Tensor:
        """From 1 to as many, ``[n, 1]``."""
        return 1 + (first * most).long().clamp_max(max(most - 1, 0))

    def placed(size: Tensor | int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        head, tail = at < size, at >= frames - size
        begin = (second * (frames - size + 1)).long()
        return (at >= begin) & (at < begin + size), head, tail, head | tail

    kinds = (
        at < count(frames - 1),
        chance < 0.1 + 0.8 * first,
        (at + (2 * second).long()) % 2 == 0,
        *placed(count(max(frames // 4, 1))),
        *placed(torch.ones_like(count(1))),
        torch.zeros_like(chance, dtype=torch.bool),
    )
    bounds = torch.tensor(shares, device=choice.device, dtype=choice.dtype).cumsum(0)
    kind = torch.bucketize(choice, bounds, right=True)
    table = torch.stack([one.expand(len(choice), frames) for one in kinds])
    return table[kind, torch.arange(len(choice), device=choice.device)]
