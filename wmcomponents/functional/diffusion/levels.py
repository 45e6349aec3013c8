"""Which of a process's levels are visited in sampling."""

from collections.abc import Sequence

import torch


def spaced_levels(levels: int, counts: int | Sequence[int]) -> list[int]:
    """Levels spread evenly from the first to the last, rounded; or so within pieces of equal length.

    Args:
        levels: K, how many there are.
        counts: how many are kept; of several numbers each is for one piece of the levels, from the cleanest.

    Returns:
        Rising numbers of levels.

    Raises:
        ValueError: if a piece has fewer levels than are to be kept of it.

    Reference: Nichol and Dhariwal, Improved Denoising Diffusion Probabilistic Models (2021), section 4.

    Example:
        >>> spaced_levels(1000, 4)
        [0, 333, 666, 999]
    """
    pieces = [counts] if isinstance(counts, int) else list(counts)
    if not pieces:
        raise ValueError("say how many levels are kept, such as 250; got none.")
    size, spare = divmod(levels, len(pieces))
    kept, start = [], 0
    for i, count in enumerate(pieces):
        length = size + (1 if i < spare else 0)
        if not 1 <= count <= length:
            raise ValueError(f"of {length} levels at least 1 and at most {length} can be kept; got {count}.")
        stride = (length - 1) / (count - 1) if count > 1 else 1.0
        at = 0.0
        for _ in range(count):  # summed up, and not multiplied, as the official code rounds
            kept.append(start + round(at))
            at += stride
        start += length
    return kept


def strided_levels(levels: int, count: int) -> list[int]:
    """Levels at a whole stride from the first on, as DDIM takes them.

    Args:
        levels: K, how many there are.
        count: how many are kept.

    Raises:
        ValueError: if no whole stride keeps as many.

    Reference: Song et al., Denoising Diffusion Implicit Models (2021), appendix D.

    Example:
        >>> strided_levels(1000, 5)
        [0, 200, 400, 600, 800]
    """
    for stride in range(1, levels):
        kept = list(range(0, levels, stride))
        if len(kept) == count:
            return kept
    raise ValueError(f"no whole stride through {levels} levels keeps {count} of them; take another number of steps.")


def levels_from_clean(levels: int, steps: int) -> list[int]:
    """Levels from -1, which is clean, to the last, spread evenly and cut down to whole numbers.

    Args:
        levels: K, how many there are.
        steps: S, of sampling.

    Returns:
        ``steps + 1`` rising numbers.

    Raises:
        ValueError: unless there is a step, and no more of them than levels.

    Reference: Chen et al., Diffusion Forcing (2024); Decart and Etched, Oasis (2024).

    Example:
        >>> levels_from_clean(1000, 4)
        [-1, 249, 499, 749, 999]
    """
    if not 1 <= steps <= levels:
        raise ValueError(f"sampling takes between 1 and {levels} steps, one for each level; got {steps}.")
    return torch.linspace(-1, levels - 1, steps + 1, device="cpu").long().tolist()
