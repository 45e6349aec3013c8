"""Diagonal Gaussians: log probability, entropy, divergence; all summed over the last dimension."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

_LOG_2PI = math.log(2.0 * math.pi)


def gaussian_log_prob(
    value: Float[Tensor, "*batch n"], mean: Float[Tensor, "*batch n"], std: Float[Tensor, "*batch n"]
) -> Float[Tensor, "*batch"]:
    """Log density of ``value``."""
    return (-0.5 * ((value - mean) / std).square() - std.log() - 0.5 * _LOG_2PI).sum(-1)


def gaussian_entropy(std: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    """Differential entropy in nats."""
    return (std.log() + 0.5 * (1.0 + _LOG_2PI)).sum(-1)


def gaussian_kl(
    mean_p: Float[Tensor, "*batch n"],
    std_p: Float[Tensor, "*batch n"],
    mean_q: Float[Tensor, "*batch n"],
    std_q: Float[Tensor, "*batch n"],
) -> Float[Tensor, "*batch"]:
    """KL(p || q) in nats."""
    ratio = (std_p / std_q).square()
    return 0.5 * (ratio - 1.0 - torch.log(ratio) + ((mean_p - mean_q) / std_q).square()).sum(-1)
