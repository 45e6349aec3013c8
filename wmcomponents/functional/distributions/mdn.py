"""Mixtures of Gaussians, as mixture density networks put them out: log density, samples from given noise, temperature.

Two layouts. *Of numbers*: every number has a mixture of its own, all parameters ``[*batch, k]`` (Ha and Schmidhuber's
world model: one mixture a latent dimension). *Of vectors*: a whole vector is drawn from one component, logits
``[*batch, k]``, the rest ``[*batch, k, n]``.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from wmcomponents.functional.distributions.categorical import inverse_cdf_index, softmax
from wmcomponents.functional.distributions.gaussian import normal_log_prob
from wmcomponents.functional.precision import at_least_float32


def mixture_log_prob(
    logits: Float[Tensor, "*batch k"],
    mean: Float[Tensor, "*batch k"],
    log_std: Float[Tensor, "*batch k"],
    value: Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch"]:
    """Log density of numbers, each under a mixture of its own.

    Args:
        logits: of the components; any shift of all of them together means the same.
        mean: of each component.
        log_std: logarithm of each component's standard deviation.
        value: where.
    """
    each = normal_log_prob(value.unsqueeze(-1), mean, log_std)
    return torch.logsumexp(at_least_float32(logits).log_softmax(-1) + each, -1)


def vector_mixture_log_prob(
    logits: Float[Tensor, "*batch k"],
    mean: Float[Tensor, "*batch k n"],
    log_std: Float[Tensor, "*batch k n"],
    value: Float[Tensor, "*batch n"],
) -> Float[Tensor, "*batch"]:
    """Log density of vectors, each under one mixture of diagonal Gaussians.

    Args:
        logits: of the components.
        mean: of each component.
        log_std: logarithm of each component's standard deviations.
        value: where.
    """
    each = normal_log_prob(value.unsqueeze(-2), mean, log_std).sum(-1)
    return torch.logsumexp(at_least_float32(logits).log_softmax(-1) + each, -1)


def mixture_component(
    logits: Float[Tensor, "*batch k"], noise: Float[Tensor, "*batch"] | None, temperature: float = 1.0
) -> Int[Tensor, "*batch"]:
    """Which component: the one whose slice of the cumulative distribution holds the noise.

    Args:
        logits: of the components, divided by the temperature here.
        noise: uniform in [0, 1); ``None``: the most likely component.
        temperature: above 0; below 1 the likely components become likelier.
    """
    if noise is None:
        return logits.argmax(-1)
    return inverse_cdf_index(softmax(logits / temperature).detach(), noise)


def sample_mixture(
    logits: Float[Tensor, "*batch k"],
    mean: Float[Tensor, "*batch k"],
    log_std: Float[Tensor, "*batch k"],
    component_noise: Float[Tensor, "*batch"] | None,
    value_noise: Float[Tensor, "*batch"] | None,
    temperature: float = 1.0,
) -> Float[Tensor, "*batch"]:
    """Numbers drawn from mixtures of their own, as a function of noise; differentiable in mean and ``log_std``.

    The temperature divides the logits, and its root multiplies the spread of the chosen component (Ha and Schmidhuber,
    2018, section 4).

    Args:
        logits: of the components.
        mean: of each component.
        log_std: logarithm of each component's standard deviation.
        component_noise: uniform in [0, 1), chooses the component; ``None``: the most likely one.
        value_noise: standard normal; ``None``: the component's mean.
        temperature: above 0.
    """
    chosen = mixture_component(logits, component_noise, temperature).unsqueeze(-1)
    value = mean.gather(-1, chosen).squeeze(-1)
    if value_noise is None:
        return value
    return value + log_std.gather(-1, chosen).squeeze(-1).exp() * (math.sqrt(temperature) * value_noise)


def sample_vector_mixture(
    logits: Float[Tensor, "*batch k"],
    mean: Float[Tensor, "*batch k n"],
    log_std: Float[Tensor, "*batch k n"],
    component_noise: Float[Tensor, "*batch"] | None,
    value_noise: Float[Tensor, "*batch n"] | None,
    temperature: float = 1.0,
) -> Float[Tensor, "*batch n"]:
    """Vectors drawn from one mixture each, as a function of noise; see :func:`sample_mixture`.

    Args:
        logits: of the components.
        mean: of each component.
        log_std: logarithm of each component's standard deviations.
        component_noise: uniform in [0, 1), one number a vector; ``None``: the most likely component.
        value_noise: standard normal; ``None``: the component's mean.
        temperature: above 0.
    """
    chosen = mixture_component(logits, component_noise, temperature)[..., None, None]
    chosen = chosen.expand(*mean.shape[:-2], 1, mean.shape[-1])
    value = mean.gather(-2, chosen).squeeze(-2)
    if value_noise is None:
        return value
    return value + log_std.gather(-2, chosen).squeeze(-2).exp() * (math.sqrt(temperature) * value_noise)
