"""Reverse steps whose variance the network says too, and the bound on the likelihood that trains it."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from wmcomponents.functional.broadcast import aligned
from wmcomponents.functional.diffusion.path import ReverseSteps
from wmcomponents.functional.diffusion.targets import Denoised


def variance_share(output: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """What a network says of the variance, -1 for the smallest and 1 for the largest, as a share in [0, 1].

    The logarithm of the variance is that share of the way from the smallest to the largest that a step can have.

    Args:
        output: of the network.

    Reference: Nichol and Dhariwal, Improved Denoising Diffusion Probabilistic Models (2021), eq. 15.
    """
    return (output + 1.0) / 2.0


def variational_bound(
    clean: Float[Tensor, "*shape"],
    noisy: Float[Tensor, "*shape"],
    guess: Denoised,
    steps: ReverseSteps,
    is_first: Tensor,
) -> Float[Tensor, "*shape"]:
    """What a reverse step costs of the bound on the likelihood, number by number, in bits.

    Behind the cleanest level that is the likelihood of the data themselves, one of 256 levels in [-1, 1]. To train the
    variance alone, hand in a guess whose data are detached.

    Args:
        clean: x_0.
        noisy: x.
        guess: what the network makes of x; without a share of the variance it is the smallest.
        steps: the rows of :class:`ReverseSteps` that lead from x's level, ``[*B]`` each.
        is_first: whether x is at the cleanest level, bool ``[*B]``.

    Reference: Ho et al. (2020), eq. 5; Nichol and Dhariwal (2021), eq. 16, whose hybrid loss adds it to the squared
    error.
    """
    of_noisy, of_clean, small, large = (aligned(x, clean).to(clean.dtype) for x in steps)
    mean = of_noisy * noisy + of_clean * guess.clean
    share = guess.variance_share
    log_variance = small if share is None else share * large + (1.0 - share) * small
    step = gaussian_kl_bits(of_noisy * noisy + of_clean * clean, small, mean, log_variance)
    return torch.where(aligned(is_first, clean), discretized_gaussian_bits(clean, mean, log_variance), step)


def gaussian_kl_bits(
    true_mean: Float[Tensor, "*shape"],
    true_log_variance: Float[Tensor, "*shape"],
    mean: Float[Tensor, "*shape"],
    log_variance: Float[Tensor, "*shape"],
) -> Float[Tensor, "*shape"]:
    """KL divergence of one Gaussian from another, number by number, in bits.

    Args:
        true_mean: of the first.
        true_log_variance: of the first.
        mean: of the second.
        log_variance: of the second.
    """
    ratio = true_log_variance - log_variance
    nats = 0.5 * (ratio.exp() - 1.0 - ratio + (true_mean - mean) ** 2 * (-log_variance).exp())
    return nats / math.log(2.0)


def discretized_gaussian_bits(
    clean: Float[Tensor, "*shape"], mean: Float[Tensor, "*shape"], log_variance: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    r"""Bits that a Gaussian spends on data that are one of 256 levels in [-1, 1].

    A level is as likely as what lies less than 1/255 beside it, the outermost ones as all that is beyond; the normal
    distribution function is the approximation :math:`\tfrac12 (1 + \tanh(\sqrt{2 / \pi} (z + 0.044715 z^3)))`, and no
    probability counts as less than 1e-12.

    Args:
        clean: the data.
        mean: of the Gaussian.
        log_variance: of the Gaussian.

    Reference: Ho et al., Denoising Diffusion Probabilistic Models (2020), section 3.3.
    """
    scale, centered = (-0.5 * log_variance).exp(), clean - mean
    above, below = scale * (centered + 1.0 / 255.0), scale * (centered - 1.0 / 255.0)
    up_to, below_it = _normal_cdf(above), _normal_cdf(below)
    inside = torch.where(clean < -0.999, up_to, torch.where(clean > 0.999, 1.0 - below_it, up_to - below_it))
    return -inside.clamp(min=1e-12).log2()


def _normal_cdf(z: Tensor) -> Tensor:
    return 0.5 * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (z + 0.044715 * z**3)))
