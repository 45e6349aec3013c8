"""What a step of DIAMOND's training is made of: windows of frames, and noise."""

from typing import NamedTuple

import torch
from torch import Tensor

from wmcomponents.objectives.arrivals import Arrivals


class FrameSegments(NamedTuple):
    """N windows of L frames of one episode each; what lies before it is padding.

    Attributes:
        frames: float ``[N, L, H, W, C]`` in [-1, 1], zero where padding.
        actions: vectors of the actions taken at each frame but the last, ``[N, L - 1, A]``.
        weight: of each frame as a target, ``[N, L]``; 0 where padding.
        real: false where padding, bool ``[N, L]``.
    """

    frames: Tensor
    actions: Tensor
    weight: Tensor
    real: Tensor


class DenoisingNoise(NamedTuple):
    """Standard normal noise of one training step of a denoiser, for N rows.

    Attributes:
        sigma: of the noise level, ``[N]``.
        offset: that all pixels of a channel share, ``[N, C, 1, 1]``.
        noise: ``[N, C, H, W]``.
        context: the same three for the context, ``None`` where it has no noise; its channels are those of all frames.
    """

    sigma: Tensor
    offset: Tensor
    noise: Tensor
    context: "DenoisingNoise | None" = None

    @classmethod
    def drawn(cls, like: Tensor, context: int, generator: torch.Generator) -> "DenoisingNoise":
        """Fresh noise.

        Args:
            like: images ``[N, C, H, W]``.
            context: frames of the context that get noise, too; 0 for none.
            generator: of the noise.
        """
        n, c, h, w = like.shape

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)

        channels = c * context
        noised = cls(normal(n), normal(n, channels, 1, 1), normal(n, channels, h, w)) if context else None
        return cls(normal(n), normal(n, c, 1, 1), normal(n, c, h, w), noised)


class Windows(NamedTuple):
    """Where S windows of each of B sequences lie.

    Attributes:
        place: number of each arrival in its sequence, int64 ``[B, S, L]``; below 0 before the sequence.
        in_episode: whether it is of the episode of the window's last one, bool ``[B, S, L]``.
        counts: whether the window's last one may be learned from, bool ``[B, S, 1]``.
    """

    place: Tensor
    in_episode: Tensor
    counts: Tensor


def windows_drawn(arrivals: Arrivals, length: int, count: int, generator: torch.Generator) -> Windows:
    """Windows that end at frames drawn evenly among those whose past is known.

    Args:
        arrivals: ``[B, L]`` arrivals.
        length: of a window.
        count: windows of each sequence.
        generator: of the draws.

    Raises:
        ValueError: if the sequences are shorter than a window.
    """
    rows, steps = arrivals.weight.shape
    if steps < length:
        raise ValueError(
            f"a training window has {length} frames, and the sequences {steps} (one more than transitions): sample "
            f"sequences of at least {length - 1} steps (sequence_length)."
        )
    device = arrivals.weight.device
    index = torch.arange(steps, device=device)
    first = arrivals.is_init.squeeze(-1)
    start = torch.where(first, index, 0).cummax(1).values  # where the episode of each frame begins, as far as known
    is_whole = (first & arrivals.reward_known.squeeze(-1)).gather(1, start)
    eligible = (arrivals.weight > 0) & (is_whole | (index - start >= length - 1))
    draws = torch.rand(rows, count, steps, generator=generator, device=device)
    last = (draws * eligible[:, None]).argmax(-1)  # (B, S)
    place = last[..., None] + torch.arange(1 - length, 1, device=device)  # (B, S, L)
    return Windows(place, place >= start.gather(1, last)[..., None], eligible.gather(1, last)[..., None])


def pieces_drawn(rows: int, steps: int, length: int, count: int, generator: torch.Generator) -> Tensor:
    """Where pieces of sequences lie that begin anywhere, int64 ``[rows, count, length]``.

    Args:
        rows: number of sequences.
        steps: of a sequence, at least ``length``.
        length: of a piece.
        count: pieces of each sequence.
        generator: of the draws.
    """
    spare, device = steps - length + 1, generator.device
    draw = torch.rand((rows, count, 1), generator=generator, device=device)
    return (draw * spare).long().clamp(max=spare - 1) + torch.arange(length, device=device)


def target_weight(weight: Tensor, autoregressive: int) -> Tensor:
    """Weights of the targets, so that each target's rows are averaged first, and then the targets that have any.

    Args:
        weight: of a window's frames, ``[N, L]``.
        autoregressive: targets after the first.

    Returns:
        ``[N, 1 + autoregressive]``.
    """
    weight = weight[:, -1 - autoregressive :]
    return weight / weight.sum(0).clamp(min=1e-8)
