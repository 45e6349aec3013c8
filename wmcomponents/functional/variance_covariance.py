"""Embeddings that must spread: hinges on standard deviations, and covariances between channels."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity, relu

from wmcomponents.functional.precision import at_least_float32


def std_hinge(x: Float[Tensor, "*batch n d"], margin: float = 1.0, eps: float = 1e-4) -> Float[Tensor, "*batch"]:
    r"""How far the channels' standard deviations fall short of a margin, ``mean_j relu(margin - sqrt(var_j + eps))``.

    Args:
        x: n samples, at least two.
        margin: below which a deviation costs.
        eps: keeps the gradient of the root finite where samples coincide.

    Raises:
        ValueError: for fewer samples.

    Reference: Bardes et al., VICReg (2022), eq. 1 and 2; the variance is the unbiased one.
    """
    return relu(margin - (_samples(x).var(-2) + eps).sqrt()).mean(-1)


def off_diagonal_covariance(x: Float[Tensor, "*batch n d"], *, centred: bool = False) -> Float[Tensor, "*batch"]:
    """Squared covariances of all pairs of different channels, summed; 0 if no channel tells of another.

    VICReg divides the sum by D, eb_jepa and PLDM by D (D - 1).

    Args:
        x: n samples, at least two; their covariance is over n - 1.
        centred: whether x is centred already, and not to be centred again.

    Raises:
        ValueError: for fewer samples.

    Reference: Bardes et al., VICReg (2022), eq. 3 and 4.
    """
    x = _samples(x)
    x = x if centred else x - x.mean(-2, keepdim=True)
    covariance = x.mT @ x / (x.shape[-2] - 1)
    return covariance.square().sum((-2, -1)) - covariance.diagonal(dim1=-2, dim2=-1).square().sum(-1)


class VICRegTerms(NamedTuple):
    """The three terms of a variance-invariance-covariance loss, without weights.

    Attributes:
        invariance: squared distance of the views, a scalar.
        variance: hinges on their standard deviations, a scalar.
        covariance: of their channels, a scalar.
    """

    invariance: Tensor
    variance: Tensor
    covariance: Tensor


def vicreg_terms(x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> VICRegTerms:
    """VICReg's terms of two views: the variance is their mean, the covariance their sum, over D.

    Args:
        x: one view of n samples.
        y: the other.

    Raises:
        ValueError: for fewer than two samples.

    Reference: Bardes et al., VICReg (2022), eq. 6, and its code. Elsewhere the conventions differ: see
    :func:`mean_vicreg_terms`.
    """
    return VICRegTerms(
        (x - y).square().mean(),
        (std_hinge(x) + std_hinge(y)) / 2,
        (off_diagonal_covariance(x) + off_diagonal_covariance(y)) / x.shape[-1],
    )


def mean_vicreg_terms(x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> VICRegTerms:
    """eb_jepa's terms of two views: variance and covariance are their sums, the covariance a mean over pairs.

    Args:
        x: one view of n samples.
        y: the other.

    Raises:
        ValueError: for fewer than two samples.

    Reference: Terver et al., A Lightweight Library for Energy-Based Joint-Embedding Predictive Architectures (2026).
    """
    return VICRegTerms(
        (x - y).square().mean(),
        std_hinge(x) + std_hinge(y),
        mean_covariance(x) + mean_covariance(y),
    )


def mean_covariance(x: Float[Tensor, "*batch n d"], *, centred: bool = False) -> Float[Tensor, "*batch"]:
    """:func:`off_diagonal_covariance` averaged over the D (D - 1) pairs; 0 of a single channel.

    Args:
        x: n samples, at least two.
        centred: whether x is centred already.

    Raises:
        ValueError: for fewer samples.
    """
    return off_diagonal_covariance(x, centred=centred) / max(1, x.shape[-1] * (x.shape[-1] - 1))


class PLDMTerms(NamedTuple):
    """PLDM's terms of sequences of embeddings, without weights, each a scalar.

    Attributes:
        std: of the batch, at each time.
        std_t: of each sequence over time.
        cov: of the batch, at each time.
        cov_t: of each sequence over time.
        temp_align: squared distance of embeddings that follow on each other.
    """

    std: Tensor
    std_t: Tensor
    cov: Tensor
    cov_t: Tensor
    temp_align: Tensor


def pldm_terms(z: Float[Tensor, "b t d"]) -> PLDMTerms:
    """PLDM's terms: the embeddings are centred over the batch once, for the terms over time too.

    So the covariance over time is one around the mean of the batch at each time, not around a sequence's own.

    Args:
        z: sequences of embeddings, at least two of at least two.

    Raises:
        ValueError: for fewer.

    Reference: Sobal et al., Learning from Reward-Free Offline Data: A Case for Planning with Latent Dynamics Models
    (2025), as in stable-worldmodel.
    """
    centred = z - z.mean(0)
    return PLDMTerms(
        std_hinge(centred.transpose(0, 1)).mean(),
        std_hinge(centred).mean(),
        mean_covariance(centred.transpose(0, 1), centred=True).mean(),
        mean_covariance(centred, centred=True).mean(),
        temporal_similarity(z),
    )


def temporal_similarity(z: Float[Tensor, "*batch t d"]) -> Float[Tensor, ""]:
    """Mean squared distance of embeddings that follow on each other; both get the gradient.

    Args:
        z: sequences of at least two embeddings.

    Raises:
        ValueError: for shorter sequences.
    """
    return _samples(z).diff(dim=-2).square().mean()


def temporal_straightening(z: Float[Tensor, "*batch t d"]) -> Float[Tensor, ""]:
    """Minus the mean cosine of displacements that follow on each other: -1 on straight lines.

    Args:
        z: sequences of at least three embeddings.

    Raises:
        ValueError: for shorter sequences.

    Reference: the code of stable-worldmodel (2026).
    """
    step = _samples(z, 3).diff(dim=-2)
    return -cosine_similarity(step[..., 1:, :], step[..., :-1, :], dim=-1).mean()


def _samples(x: Tensor, least: int = 2) -> Tensor:
    if x.ndim < 2 or x.shape[-2] < least:
        raise ValueError(f"expected at least {least} embeddings, [..., {least} or more, D]; got {[*x.shape]}.")
    return at_least_float32(x)
