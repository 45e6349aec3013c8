"""iCEM's proposal: noise that is correlated along time."""

from collections.abc import Sequence

import torch
from torch import Tensor

from wmcomponents.agents.planners.plan import Params
from wmcomponents.agents.planners.proposal import Bound, Proposal, weighted_mean, weighted_variance, within
from wmcomponents.world_model import Noise


def colored_noise(real: Tensor, imaginary: Tensor, exponent: float, length: int) -> Tensor:
    """Noise of unit variance around its mean, whose power falls with frequency: ``frequency ** -exponent``.

    The constant part is as strong as the lowest frequency, and comes on top of the variance.

    Args:
        real: standard normal, one number for each frequency of a real signal, ``[..., length // 2 + 1]``.
        imaginary: likewise; those of the constant part and, for an even length, of the highest frequency do not count.
        exponent: 0 is white noise, 1 pink, 2 red.
        length: of the signal.

    Returns:
        ``[..., length]``.

    Reference: Timmer, König, On generating power law noise (1995).
    """
    if length == 1:
        return real
    frequency = torch.fft.rfftfreq(length, device=real.device, dtype=real.dtype)
    scale = torch.cat([frequency[1:2], frequency[1:]]) ** (-exponent / 2)
    weight = scale[1:].clone()
    weight[-1] *= (1 + length % 2) / 2
    sigma = 2 * weight.square().sum().sqrt() / length
    is_free = torch.ones_like(frequency)
    is_free[0] = 0
    if length % 2 == 0:
        is_free[-1] = 0
    return torch.fft.irfft(torch.complex(real * scale, imaginary * scale * is_free), n=length, dim=-1) / sigma


class ColoredGaussian(Proposal):
    """A Gaussian whose noise is correlated along time, clipped to the bounds.

    Parameters: ``mean`` and ``variance``. Noise: ``real`` and ``imaginary``, standard normal
    ``[*B, N, A, H // 2 + 1]``.

    Args:
        exponent: of the noise's power spectrum.
        low: lower bound of actions.
        high: upper bound.

    Reference: Pinneri et al., Sample-efficient Cross-Entropy Method for Real-time Planning (iCEM, 2020).
    """

    def __init__(self, exponent: float = 2.0, *, low: Bound = -1.0, high: Bound = 1.0) -> None:
        self.exponent, self.low, self.high = exponent, low, high

    def begin(self, center: Tensor) -> Params:
        """Around a sequence ``[*B, H, A]``."""
        return {"mean": center, "variance": torch.zeros_like(center) + (self.high - self.low) ** 2 / 16}

    def draw(self, batch_size: Sequence[int], horizon: int, size: int, generator: torch.Generator) -> Noise:
        """Both parts of the spectrum, ``[*batch_size, A, H // 2 + 1]``."""
        shape = (*batch_size, size, horizon // 2 + 1)
        parts = ("real", "imaginary")
        return {part: torch.randn(shape, generator=generator, device=generator.device) for part in parts}

    def sample(self, params: Params, noise: Noise) -> Tensor:
        """``clip(mean + std * noise)``."""
        mean = params["mean"]
        colored = colored_noise(noise["real"], noise["imaginary"], self.exponent, mean.shape[-2]).movedim(-1, -2)
        return within(colored * params["variance"].sqrt().unsqueeze(-3) + mean.unsqueeze(-3), self.low, self.high)

    def fit(self, params: Params, elites: Tensor, weights: Tensor) -> Params:
        """Mean and variance of the elites."""
        mean = weighted_mean(elites, weights)
        return {"mean": mean, "variance": weighted_variance(elites, weights, mean)}
