"""Leading dimensions of what networks of latents read: as many as one likes outside, one inside."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor


def one_batch(lead: Sequence[int], **parts: Tensor | None) -> list[Any]:
    """Everything that goes with the rows, ``[*B, ...]``, with one batch dimension.

    Args:
        lead: ``*B``.
        parts: by their names; may be absent.

    Returns:
        The parts, ``[B, ...]``, in their order; None for those that are absent.

    Raises:
        ValueError: if one has other leading dimensions.
    """
    lead, flat = tuple(lead), []
    for name, part in parts.items():
        if part is not None and tuple(part.shape[: len(lead)]) != lead:
            raise ValueError(
                f"{name} goes with each row of what is denoised, [{', '.join(map(str, (*lead, '...')))}]; got "
                f"{[*part.shape]}."
            )
        flat.append(None if part is None else part.reshape(-1, *part.shape[len(lead) :]))
    return flat


def check_latent(latent: Tensor, axes: int, shape: Sequence[int]) -> None:
    """Refuse latents of another kind.

    Args:
        latent: ``[*B, C, H, W]``, or ``[*B, T, C, H, W]``.
        axes: how many dimensions it has at least.
        shape: (C, H, W) that is expected.

    Raises:
        ValueError: if it has fewer dimensions, or other channels or sizes.
    """
    if latent.ndim < axes or tuple(latent.shape[-3:]) != tuple(shape):
        what = "[..., T, C, H, W]" if axes == 4 else "[..., C, H, W]"
        raise ValueError(
            f"expected latents {what} of {shape[0]} channels and {shape[1]} x {shape[2]} places, channels before "
            f"height and width; got {[*latent.shape]}."
        )
