"""Normals squashed into (-1, 1) by tanh: policies of Dreamer, TD-MPC2, Soft Actor-Critic, EfficientZero-V2."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from wmcomponents.functional.distributions.gaussian import gaussian_entropy, gaussian_log_prob, normal_log_density
from wmcomponents.functional.precision import at_least_float32

SMALLEST_SLOPE = 1e-6

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(32)
"""Gauss-Hermite quadrature: places and weights of means over a standard normal."""


def tanh_normal(
    mean: Float[Tensor, "*batch n"],
    std: Float[Tensor, "*batch n"],
    init_std: float = 5.0,
    mean_scale: float = 5.0,
    min_std: float = 1e-4,
) -> tuple[Float[Tensor, "*batch n"], Float[Tensor, "*batch n"]]:
    r"""Mean and standard deviation before the squashing, from unbounded network outputs.

    .. math:: \mu = m \tanh(\mu_{raw} / m), \quad
        \sigma = \mathrm{softplus}(\sigma_{raw} + \ln(e^{\sigma_0} - 1)) + \sigma_{min}

    Args:
        mean: raw output.
        std: raw output.
        init_std: standard deviation, but for the smallest one, where the raw output is 0.
        mean_scale: largest magnitude m of the mean.
        min_std: smallest standard deviation.

    Reference: Hafner et al., Dream to Control (Dreamer, 2020), appendix A.
    """
    return mean_scale * torch.tanh(mean / mean_scale), F.softplus(std + math.log(math.expm1(init_std))) + min_std


def bounded_log_std(raw: Float[Tensor, "*shape"], low: float = -10.0, high: float = 2.0) -> Float[Tensor, "*shape"]:
    """Raw outputs as logarithms of a standard deviation in (low, high): ``low + (high - low) (tanh(raw) + 1) / 2``."""
    return low + 0.5 * (high - low) * (at_least_float32(raw).tanh() + 1.0)


def tanh_normal_sample(
    mean: Float[Tensor, "*batch n"], std: Float[Tensor, "*batch n"], noise: Float[Tensor, "*batch n"]
) -> Float[Tensor, "*batch n"]:
    """``tanh(mean + std * noise)``, differentiable, from standard normal noise."""
    return torch.tanh(torch.addcmul(mean, std, noise))


def tanh_normal_log_prob(
    action: Float[Tensor, "*#batch n"], mean: Float[Tensor, "*#batch n"], std: Float[Tensor, "*#batch n"]
) -> Float[Tensor, "*#batch"]:
    """Log density of a squashed ``action`` in [-1, 1]; the ends count as the nearest number inside."""
    end = 1.0 - torch.finfo(action.dtype).eps / 2
    x = action.clamp(-end, end).atanh()
    return gaussian_log_prob(x, mean, std) - _log_slope_at(x).sum(-1)


def tanh_normal_entropy(mean: Float[Tensor, "*batch n"], std: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    r"""Entropy of the squashed action in nats, summed over the last dimension.

    .. math:: H(\tanh x) = H(x) + E[\log(1 - \tanh^2 x)]

    It is at most log 2 for each number, that of the uniform distribution, and falls where a wide normal is squashed
    against both ends. The mean is taken by quadrature, within 0.03 nats for standard deviations up to 5.

    Args:
        mean: before the squashing.
        std: before the squashing.
    """
    nodes, weights = mean.new_tensor(NODES), mean.new_tensor(WEIGHTS / WEIGHTS.sum())
    x = torch.addcmul(mean.unsqueeze(-1), std.unsqueeze(-1), nodes)
    return gaussian_entropy(std) + (_log_slope_at(x) @ weights).sum(-1)


def smoothed_tanh_normal_log_prob(
    action: Float[Tensor, "*#batch n"], mean: Float[Tensor, "*#batch n"], std: Float[Tensor, "*#batch n"]
) -> Float[Tensor, "*#batch"]:
    """:func:`tanh_normal_log_prob` of an action inside (-1, 1), with the slope of :func:`tanh_log_slope`."""
    density = normal_log_density((action.atanh() - mean) / std, std.log())
    return (density - _log_slope(action)).sum(-1)


def tanh_log_slope(action: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    """Log derivative of tanh where it gave ``action``, summed over the last dimension.

    Subtract it from the log density before squashing to have the one after. Near the bounds the slope is kept from 0 by
    1e-6.
    """
    return _log_slope(action).sum(-1)


def _log_slope_at(x: Tensor) -> Tensor:
    """``log(1 - tanh(x)^2)`` without its cancellation."""
    return 2.0 * (math.log(2.0) - x - F.softplus(-2.0 * x))


def _log_slope(action: Tensor) -> Tensor:
    return torch.log(torch.relu(1.0 - action.square()) + SMALLEST_SLOPE)
