"""Gaussians squashed by tanh, from given noise (TD-MPC2, Soft Actor-Critic)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from wmcomponents.functional.precision import at_least_float32

HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
SMALLEST_SLOPE = 1e-6


def bounded_log_std(raw: Float[Tensor, "*shape"], low: float = -10.0, high: float = 2.0) -> Float[Tensor, "*shape"]:
    """Raw outputs as logarithms of a standard deviation in (low, high): ``low + (high - low) (tanh(raw) + 1) / 2``."""
    return low + 0.5 * (high - low) * (at_least_float32(raw).tanh() + 1.0)


def noise_log_prob(noise: Float[Tensor, "*batch n"], log_std: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    """Log density of ``mean + noise * exp(log_std)`` under its Gaussian, summed over the last dimension.

    Args:
        noise: standard normal.
        log_std: logarithm of the standard deviation.
    """
    return (-0.5 * noise.square() - log_std - HALF_LOG_2PI).sum(-1)


def tanh_log_slope(action: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    """Log derivative of tanh where it gave ``action``, summed over the last dimension.

    Subtract it from the log density before squashing to have the one after. Near the bounds the slope is kept from 0 by
    1e-6.
    """
    return torch.log(torch.relu(1.0 - action.square()) + SMALLEST_SLOPE).sum(-1)
