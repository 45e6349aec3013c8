"""Has a representation collapsed? Numbers of a set of embeddings that a prediction loss does not show."""

import torch
from jaxtyping import Float
from torch import Tensor

from wmcomponents.functional.precision import at_least_float32


def channel_std(x: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Standard deviation over samples, averaged over channels: 0 where all samples are embedded alike.

    Of embeddings normalised to length 1, a healthy value is ``1 / sqrt(d)``.

    Args:
        x: embeddings of n samples, at least two.

    Raises:
        ValueError: for fewer samples, or another number of dimensions.
    """
    return _samples(x, 2).std(0).mean()


def effective_rank(x: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    r"""How many directions the embeddings use: the exponential of the entropy of their singular values.

    .. math:: \exp\left(-\sum_i p_i \ln p_i\right), \qquad p_i = \sigma_i / \sum_j \sigma_j

    The embeddings are taken as they are; ``x - x.mean(0)`` gives the rank of their spread. All zeros have rank 0.

    Args:
        x: embeddings of n samples.

    Raises:
        ValueError: for another number of dimensions, or no sample.

    Reference: Roy and Vetterli, The Effective Rank (2007).

    >>> effective_rank(torch.diag(torch.tensor([3.0, 1.0])))
    tensor(1.7548)
    """
    share, total = _shares(x)
    entropy = -torch.special.xlogy(share, share).sum()
    return torch.where(total > 0, entropy.exp(), torch.zeros_like(entropy))


def rankme(x: Float[Tensor, "n d"], eps: float = 1e-7) -> Float[Tensor, ""]:
    r"""RankMe: :func:`effective_rank` of uncentred embeddings, :math:`p_i = \sigma_i / \sum_j \sigma_j + \epsilon`.

    Args:
        x: embeddings of n samples; the paper takes 25,600.
        eps: added to every share.

    Raises:
        ValueError: for another number of dimensions, or no sample.

    Reference: Garrido et al., RankMe (2023), eq. 1.
    """
    share = _shares(x)[0] + eps
    return (-(share * share.log()).sum()).exp()


def participation_ratio(x: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    r"""How many directions the embeddings vary in, :math:`(\sum_i \lambda_i)^2 / \sum_i \lambda_i^2`.

    With the eigenvalues of the covariance: d for a ball, 1 for a line, 0 where nothing varies.

    Args:
        x: embeddings of n samples, at least two.

    Raises:
        ValueError: for fewer samples, or another number of dimensions.

    Reference: Gao et al., A Theory of Multineuronal Dimensionality (2017).
    """
    centred = _samples(x, 2)
    centred = centred - centred.mean(0)
    # Scaled to order one first: fourth powers of small numbers vanish in float32.
    largest = centred.abs().amax()
    centred = centred / torch.where(largest > 0, largest, torch.ones_like(largest))
    gram = centred.T @ centred if centred.shape[1] <= centred.shape[0] else centred @ centred.T
    trace, squares = gram.diagonal().sum(), gram.square().sum()
    return torch.where(largest > 0, trace.square() / squares, torch.zeros_like(trace))


def stable_rank(x: Float[Tensor, "n d"], delta: float = 0.01) -> Float[Tensor, ""]:
    r"""The least number of singular values whose sum is at least :math:`1 - \delta` of that of all (srank).

    Args:
        x: embeddings of n samples.
        delta: share that may be left out, in [0, 1).

    Raises:
        ValueError: for another number of dimensions, no sample, or a share outside [0, 1).

    Reference: Kumar et al., Implicit Under-Parameterization Inhibits Data-Efficient Deep RL (2021), section 3.
    """
    if not 0.0 <= delta < 1.0:
        raise ValueError(f"delta is the share of the singular values that may be left out, in [0, 1); got {delta}.")
    share, total = _shares(x)
    enough = share.cumsum(0) >= 1.0 - delta
    # Rounding may leave the sum of all shares just below 1.
    rank = torch.where(enough.any(), enough.int().argmax() + 1, share.new_full((), len(share)))
    return torch.where(total > 0, rank, torch.zeros_like(rank))


def mean_abs_correlation(x: Float[Tensor, "n d"], eps: float = 1e-8) -> Float[Tensor, ""]:
    """Absolute correlation of two channels, averaged over all pairs: 1 if all tell the same.

    A channel that does not vary correlates with none.

    Args:
        x: embeddings of n samples, at least two, with at least two channels.
        eps: standard deviation below which a channel counts as constant.

    Raises:
        ValueError: for fewer samples or channels, or another number of dimensions.
    """
    x = _samples(x, 2)
    channels = x.shape[1]
    if channels < 2:
        raise ValueError(f"correlations are of pairs of channels; got embeddings of {channels} channel.")
    std = x.std(0, correction=0)
    unit = torch.where(std > eps, (x - x.mean(0)) / std.clamp_min(eps), 0.0)
    correlation = (unit.T @ unit / x.shape[0]).abs()
    return (correlation.sum() - correlation.diagonal().sum()) / (channels * (channels - 1))


def unexplained_variance(predicted: Float[Tensor, "n d"], target: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Squared error of predictions over the variance of their targets: 1 is what the targets' mean would reach.

    A prediction loss that falls because its targets shrink does not lower this number. Where targets do not vary at
    all it is infinite, or NaN if the predictions are exact.

    Args:
        predicted: embeddings that were predicted, of n samples.
        target: those that came, of the same samples.

    Raises:
        ValueError: for other or unlike shapes, or fewer than two samples.
    """
    if predicted.shape != target.shape:
        raise ValueError(f"predictions and targets have one shape; got {[*predicted.shape]} and {[*target.shape]}.")
    predicted, target = _samples(predicted, 2), _samples(target, 2)
    return (predicted - target).square().mean() / target.var(0, correction=0).mean()


def _shares(x: Tensor) -> tuple[Tensor, Tensor]:
    """Singular values over their sum, largest first, and the sum."""
    values = torch.linalg.svdvals(_samples(x, 1))
    total = values.sum()
    return values / torch.where(total > 0, total, torch.ones_like(total)), total


def _samples(x: Tensor, least: int) -> Tensor:
    if x.ndim != 2 or x.shape[0] < least or not x.shape[1]:
        raise ValueError(
            f"expected embeddings [samples, channels] of at least {least} sample{'s' * (least > 1)}; got {[*x.shape]}: "
            f"flatten batch and time into the first dimension."
        )
    return at_least_float32(x)
