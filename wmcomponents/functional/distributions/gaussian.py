"""Gaussians: log density, entropy, divergence."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

LOG_2PI = math.log(2.0 * math.pi)


def normal_log_density(z: Float[Tensor, "*#shape"], log_std: Float[Tensor, "*#shape"]) -> Float[Tensor, "*#shape"]:
    r"""Log density of single normal numbers: ``-z^2 / 2 - ln(sigma) - ln(2 pi) / 2``.

    Args:
        z: distance from the mean in standard deviations.
        log_std: logarithm of the standard deviation.
    """
    return -0.5 * z.square() - log_std - 0.5 * LOG_2PI


def normal_log_prob(
    value: Float[Tensor, "*#shape"], mean: Float[Tensor, "*#shape"], log_std: Float[Tensor, "*#shape"]
) -> Float[Tensor, "*#shape"]:
    """Log density of single normal numbers, given the logarithm of the standard deviation."""
    return normal_log_density((value - mean) * (-log_std).exp(), log_std)


def noise_log_prob(noise: Float[Tensor, "*batch n"], log_std: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    """Log density of ``mean + noise * exp(log_std)`` under its Gaussian, summed over the last dimension.

    Args:
        noise: standard normal.
        log_std: logarithm of the standard deviation.
    """
    return normal_log_density(noise, log_std).sum(-1)


def gaussian_log_prob(
    value: Float[Tensor, "*#batch n"], mean: Float[Tensor, "*#batch n"], std: Float[Tensor, "*#batch n"]
) -> Float[Tensor, "*#batch"]:
    """Log density of ``value`` under a diagonal Gaussian, summed over the last dimension."""
    return normal_log_density((value - mean) / std, std.log()).sum(-1)


def gaussian_entropy(std: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    """Differential entropy of a diagonal Gaussian in nats, summed over the last dimension."""
    return (std.log() + 0.5 * (1.0 + LOG_2PI)).sum(-1)


def gaussian_kl(
    mean_p: Float[Tensor, "*batch n"],
    std_p: Float[Tensor, "*batch n"],
    mean_q: Float[Tensor, "*batch n"],
    std_q: Float[Tensor, "*batch n"],
) -> Float[Tensor, "*batch"]:
    """KL(p || q) of diagonal Gaussians in nats, summed over the last dimension."""
    ratio = (std_p / std_q).square()
    return 0.5 * (ratio - 1.0 - torch.log(ratio) + ((mean_p - mean_q) / std_q).square()).sum(-1)
