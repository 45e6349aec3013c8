"""Draws from the likeliest classes alone."""

from jaxtyping import Float, Int
from torch import Tensor

from wmcomponents.functional.distributions.categorical import inverse_cdf_index, softmax


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


def drawn_class(
    logits: Float[Tensor, "*batch k"], noise: Float[Tensor, "*batch"] | None, count: int | None = None
) -> Int[Tensor, "*batch"]:
    """A class drawn from the likeliest ones.

    Args:
        logits: of the classes.
        noise: uniform in [0, 1), one number a draw; the likeliest class if not given.
        count: out of how many classes; all of them if not given.

    Raises:
        ValueError: if it is drawn out of none.

    Example:
        >>> import torch
        >>> drawn_class(torch.tensor([1.0, 3.0, 2.0]), torch.tensor(0.99), 2)
        tensor(2)
    """
    return logits.argmax(-1) if noise is None else inverse_cdf_index(softmax(top_k_logits(logits, count)), noise)
