"""The continuous policy's distribution of DreamerV2: a normal cut off at -1 and 1; one number per dimension."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.special import ndtr, ndtri

from wmcomponents.functional.distributions.categorical import straight_through
from wmcomponents.functional.distributions.gaussian import LOG_2PI


def truncated_normal(
    mean: Float[Tensor, "*batch n"], std: Float[Tensor, "*batch n"], min_std: float = 0.1
) -> tuple[Float[Tensor, "*batch n"], Float[Tensor, "*batch n"]]:
    """Location and scale from unbounded network outputs: ``tanh(mean)`` and ``2 sigmoid(std / 2) + min_std``.

    Reference: Hafner et al., Mastering Atari with Discrete World Models (DreamerV2, 2021), its code's ``trunc_normal``.
    """
    return mean.tanh(), 2.0 * (std / 2.0).sigmoid() + min_std


def truncated_normal_sample(
    loc: Float[Tensor, "*#shape"], scale: Float[Tensor, "*#shape"], noise: Float[Tensor, "*#shape"]
) -> Float[Tensor, "*#shape"]:
    """The value below which ``noise``, uniform in [0, 1), of the distribution lies; differentiable.

    Kept 1e-6 away from the ends, which lets the gradient pass.
    """
    low, mass = _cut(loc, scale)[2:]
    inner = 1e-6
    value = loc + scale * ndtri((low + noise * mass).clamp(1e-7, 1.0 - 1e-7))
    return straight_through(value.detach().clamp(-1.0 + inner, 1.0 - inner), value)


def truncated_normal_log_prob(
    value: Float[Tensor, "*#shape"], loc: Float[Tensor, "*#shape"], scale: Float[Tensor, "*#shape"]
) -> Float[Tensor, "*#shape"]:
    """Log density of each number; minus infinity outside [-1, 1]. Sum over the last dimension for that of an action."""
    mass = _cut(loc, scale)[3]
    density = -0.5 * ((value - loc) / scale).square() - 0.5 * LOG_2PI - scale.log() - mass.log()
    return torch.where(value.abs() <= 1.0, density, -torch.inf)


def truncated_normal_mean(
    loc: Float[Tensor, "*batch n"], scale: Float[Tensor, "*batch n"]
) -> Float[Tensor, "*batch n"]:
    """Expected value."""
    lower, upper, _, mass = _cut(loc, scale)
    return loc + scale * (_density(lower) - _density(upper)) / mass


def truncated_normal_mode(
    loc: Float[Tensor, "*batch n"], scale: Float[Tensor, "*batch n"]
) -> Float[Tensor, "*batch n"]:
    """The most likely value: the location, if it is inside."""
    return loc.clamp(-1.0, 1.0)


def truncated_normal_entropy(
    loc: Float[Tensor, "*batch n"], scale: Float[Tensor, "*batch n"]
) -> Float[Tensor, "*batch n"]:
    """Differential entropy in nats, of each number."""
    lower, upper, _, mass = _cut(loc, scale)
    edges = (lower * _density(lower) - upper * _density(upper)) / (2.0 * mass)
    return 0.5 * (1.0 + LOG_2PI) + scale.log() + mass.log() + edges


def _cut(loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The ends in standard deviations, the mass below the lower one, the mass between."""
    lower, upper = (-1.0 - loc) / scale, (1.0 - loc) / scale
    below = ndtr(lower)
    return lower, upper, below, ndtr(upper) - below


def _density(x: Tensor) -> Tensor:
    return (-0.5 * x.square() - 0.5 * LOG_2PI).exp()
