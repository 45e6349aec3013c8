"""Two-hot regression on exponentially spaced bins (DreamerV3, section "Critic learning")."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from wmcomponents.functional.precision import at_least_float32
from wmcomponents.functional.symlog import symexp


def symexp_bins(count: int = 255, limit: float = 20.0) -> Float[Tensor, " bins"]:
    """Bins that are evenly spaced in symlog space, symmetric around zero to the last bit.

    Args:
        count: number of bins. An odd number has exactly one bin at 0, an even number two.
        limit: the outermost bins lie at ``±symexp(limit)``.

    Raises:
        ValueError: if ``count`` is smaller than 2 or ``limit`` is not positive.
    """
    if count < 2 or limit <= 0:
        raise ValueError(f"Need at least 2 bins and a positive limit; got count={count}, limit={limit}.")
    steps = (count + 1) // 2
    # float32, in the order in which jax.numpy.linspace computes it, so that the bins are the official ones.
    fraction = torch.arange(steps, dtype=torch.float32) * torch.tensor(1.0 / max(steps - 1, 1))
    half = symexp(-limit * (1.0 - fraction))
    mirrored = half[:-1] if count % 2 else half
    return torch.cat([half, -mirrored.flip(0)])


def even_bins(count: int = 101, limit: float = 10.0) -> Float[Tensor, " bins"]:
    """Bins that are evenly spaced, symmetric around zero to the last bit: for scalars in symlog space (TD-MPC2).

    Args:
        count: number of bins.
        limit: the outermost bins lie at ``±limit``.

    Raises:
        ValueError: if ``count`` is smaller than 2 or ``limit`` is not positive.
    """
    if count < 2 or limit <= 0:
        raise ValueError(f"Need at least 2 bins and a positive limit; got count={count}, limit={limit}.")
    ascending = torch.linspace(-limit, limit, count)
    return 0.5 * (ascending - ascending.flip(0))


def two_hot_neighbours(
    target: Float[Tensor, "*batch"], bins: Float[Tensor, " bins"]
) -> tuple[Int[Tensor, "*batch"], Int[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """The two bins around a target and the weight of the upper one.

    A target beyond the last bin puts all its weight on that bin. A target that equals a bin puts all its weight there.

    Returns:
        Index of the bin below, index of the bin above, weight of the bin above in [0, 1] (linear between the two bins).
    """
    target = target.detach().contiguous()
    count = torch.searchsorted(bins, target, right=True)  # number of bins <= target
    below, above = (count - 1).clamp(min=0), count.clamp(max=bins.shape[0] - 1)
    low, high = bins[below], bins[above]
    gap = high - low
    weight = ((target - low) / torch.where(gap > 0, gap, 1.0)).clamp(0.0, 1.0)
    return below, above, torch.where(gap > 0, weight, 0.0)


def two_hot(target: Float[Tensor, "*batch"], bins: Float[Tensor, " bins"]) -> Float[Tensor, "*batch bins"]:
    """Encode scalars as weights on their two neighbouring bins, so that ``(two_hot(x) * bins).sum(-1) == x``.

    Args:
        target: values in the bins' own space, of any shape. Values outside are moved to the nearest end.
        bins: increasing bin centres.
    """
    below, above, weight = two_hot_neighbours(target, bins)
    out = torch.zeros(*target.shape, bins.shape[0], dtype=bins.dtype, device=bins.device)
    out = out.scatter_add(-1, below.unsqueeze(-1), (1.0 - weight).unsqueeze(-1))
    return out.scatter_add(-1, above.unsqueeze(-1), weight.unsqueeze(-1))


def two_hot_cross_entropy(
    logits: Float[Tensor, "*batch bins"], target: Float[Tensor, "*batch"], bins: Float[Tensor, " bins"]
) -> Float[Tensor, "*batch"]:
    """Cross entropy between ``two_hot(target)`` and ``softmax(logits)``, without building the two-hot vectors.

    No gradient reaches ``target``.
    """
    return two_hot_cross_entropies(logits, target.unsqueeze(-1), bins).squeeze(-1)


def two_hot_cross_entropies(
    logits: Float[Tensor, "*batch bins"], targets: Float[Tensor, "*batch k"], bins: Float[Tensor, " bins"]
) -> Float[Tensor, "*batch k"]:
    """:func:`two_hot_cross_entropy` of the same logits with K targets each, at little more than the cost of one.

    No gradient reaches ``targets``.
    """
    below, above, weight = two_hot_neighbours(targets, bins)
    logits = at_least_float32(logits)
    low, high = logits.gather(-1, torch.cat([below, above], -1)).chunk(2, -1)
    return logits.logsumexp(-1, keepdim=True) - torch.lerp(low, high, weight)


def two_hot_mean(logits: Float[Tensor, "*batch bins"], bins: Float[Tensor, " bins"]) -> Float[Tensor, "*batch"]:
    """Expected value under ``softmax(logits)``, summed in symmetric pairs.

    The outer bins reach 4.85e8; a plain float32 sum of uniform probabilities would leave a large rest there. Adding the
    mirrored bins to each other first gives exactly 0 for symmetric probabilities.

    Args:
        logits: unnormalised log probabilities of the bins.
        bins: bin centres with ``bins == -bins.flip(0)``.
    """
    weighted = at_least_float32(logits).softmax(-1) * bins
    half = bins.shape[0] // 2
    mirrored = weighted[..., :half] + weighted[..., -half:].flip(-1)
    total = mirrored.sum(-1)
    return total if bins.shape[0] % 2 == 0 else total + weighted[..., half]
