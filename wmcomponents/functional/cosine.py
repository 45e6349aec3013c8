"""Similarity of directions."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize


def negative_cosine(
    x: Float[Tensor, "*batch n"], y: Float[Tensor, "*batch n"], eps: float = 1e-5
) -> Float[Tensor, "*batch"]:
    """``-cos(x, y)`` (SimSiam; EfficientZero, eq. 3): -1 where they point the same way.

    Args:
        x: predicted.
        y: target; stop its gradient outside.
        eps: smallest norm.
    """
    return -(normalize(x, dim=-1, eps=eps) * normalize(y, dim=-1, eps=eps)).sum(-1)
