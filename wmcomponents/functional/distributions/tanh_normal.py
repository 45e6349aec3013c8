"""The continuous policy's distribution of Dreamer: a normal squashed into (-1, 1) by tanh."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from wmcomponents.functional.distributions.gaussian import gaussian_log_prob


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


def tanh_normal_sample(
    mean: Float[Tensor, "*batch n"], std: Float[Tensor, "*batch n"], noise: Float[Tensor, "*batch n"]
) -> Float[Tensor, "*batch n"]:
    """``tanh(mean + std * noise)``, differentiable, from standard normal noise."""
    return torch.tanh(torch.addcmul(mean, std, noise))


def tanh_normal_log_prob(
    action: Float[Tensor, "*batch n"], mean: Float[Tensor, "*batch n"], std: Float[Tensor, "*batch n"]
) -> Float[Tensor, "*batch"]:
    """Log density of a squashed ``action`` in [-1, 1]; the ends count as the nearest number inside."""
    end = 1.0 - torch.finfo(action.dtype).eps / 2
    x = action.clamp(-end, end).atanh()
    # log(1 - tanh(x)^2), without its cancellation
    slope = 2.0 * (math.log(2.0) - x - F.softplus(-2.0 * x))
    return gaussian_log_prob(x, mean, std) - slope.sum(-1)
