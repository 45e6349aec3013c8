"""What predictors of features share: leading dimensions, and windows that fit together."""

from torch import Tensor


def one_batch(embed: Tensor, *others: Tensor | None) -> tuple[tuple[int, ...], list[Tensor | None]]:
    """Windows ``[*B, T, N, D]`` and what goes with each frame ``[*B, T, ...]``, with one batch dimension.

    Args:
        embed: the windows.
        others: what goes with each frame; may be absent.

    Returns:
        ``*B``, and all of them as ``[B, T, ...]``.

    Raises:
        ValueError: if one has other batch dimensions or frames.
    """
    if embed.ndim < 3:
        raise ValueError(f"windows of features are [..., T, N, D]; got {[*embed.shape]}.")
    lead, frames = embed.shape[:-3], embed.shape[-3]
    flat: list[Tensor | None] = [embed.reshape(-1, *embed.shape[-3:])]
    for other in others:
        if other is not None and other.shape[: len(lead) + 1] != (*lead, frames):
            raise ValueError(f"each frame of {[*embed.shape[:-2]]} has its own action and state; got {[*other.shape]}.")
        flat.append(None if other is None else other.reshape(-1, frames, *other.shape[len(lead) + 1 :]))
    return tuple(lead), flat
