"""Draws from the likeliest classes alone."""

from jaxtyping import Float
from torch import Tensor


def top_k_logits(logits: Float[Tensor, "*batch k"], count: int | None) -> Float[Tensor, "*batch k"]:
    """Logits with minus infinity at all but the likeliest classes; classes level with the last of these are kept.

    Args:
        logits: of the classes.
        count: how many are kept; all of them if not given, or where there are no more.

    Raises:
        ValueError: if none is kept.

    Example:
        >>> import torch
        >>> top_k_logits(torch.tensor([1.0, 3.0, 2.0]), 2)
        tensor([-inf, 3., 2.])
    """
    if count is None or count >= logits.shape[-1]:
        return logits
    if count < 1:
        raise ValueError(f"at least one class is kept; got {count}.")
    least = logits.topk(count).values[..., -1:]
    return logits.masked_fill(logits < least, float("-inf"))
