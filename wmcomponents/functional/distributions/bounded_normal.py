"""The continuous policy's distribution of DreamerV3: a normal whose parameters, not samples, are bounded."""

from jaxtyping import Float
from torch import Tensor


def bounded_normal(
    mean: Float[Tensor, "*batch n"], std: Float[Tensor, "*batch n"], min_std: float = 0.1, max_std: float = 1.0
) -> tuple[Float[Tensor, "*batch n"], Float[Tensor, "*batch n"]]:
    """Mean and standard deviation from unbounded network outputs.

    ``tanh(mean)`` and ``(max_std - min_std) * sigmoid(std + 2) + min_std``. Samples are not squashed: they may leave
    [-1, 1], and it is the environment that clips.

    Raises:
        ValueError: unless ``0 < min_std < max_std``.
    """
    if not 0 < min_std < max_std:
        raise ValueError(f"Need 0 < min_std < max_std; got min_std={min_std}, max_std={max_std}.")
    return mean.tanh(), (max_std - min_std) * (std + 2.0).sigmoid() + min_std
