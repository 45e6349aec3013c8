"""Gaussian paths from data to noise: x at a level is alpha x_0 + sigma eps. Everything else follows from the two."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from wmcomponents.functional.broadcast import aligned


class AlphaSigma(NamedTuple):
    r"""A level of noise: :math:`x = \alpha x_0 + \sigma \epsilon`.

    Attributes:
        alpha: factor on the data, ``[*B]`` for one of each row, or a number.
        sigma: standard deviation of the noise.
    """

    alpha: Tensor | float
    sigma: Tensor | float

    def over(self, like: Tensor) -> "AlphaSigma":
        """The same, to be broadcast with what rows ``[*B, ...]`` hold."""
        alpha, sigma = (aligned(x, like).to(like.dtype) if isinstance(x, Tensor) else x for x in self)
        return AlphaSigma(alpha, sigma)

    @property
    def snr(self) -> Tensor | float:
        r"""Signal to noise ratio :math:`\alpha^2 / \sigma^2`."""
        return (self.alpha / self.sigma) ** 2

    @classmethod
    def preserving(cls, share: Tensor | float) -> "AlphaSigma":
        r"""The level of variance-preserving diffusion at which a share :math:`\bar\alpha` of the variance is data's.

        Args:
            share: in [0, 1].
        """
        return cls(share**0.5, (1.0 - share) ** 0.5)

    @classmethod
    def flow(cls, time: Tensor | float) -> "AlphaSigma":
        """The level of a rectified flow, whose paths are straight.

        Args:
            time: 0 for data, 1 for noise.
        """
        return cls(1.0 - time, time)


def diffused(
    clean: Float[Tensor, "*shape"], noise: Float[Tensor, "*shape"], level: AlphaSigma
) -> Float[Tensor, "*shape"]:
    r"""Data with noise: :math:`\alpha x_0 + \sigma \epsilon`.

    Args:
        clean: x_0, ``[*B, ...]``.
        noise: epsilon, standard normal.
        level: of each row, or of each frame of each row, or one of all.
    """
    at = level.over(clean)
    return at.alpha * clean + at.sigma * noise


class ReverseStep(NamedTuple):
    r"""What is known of x at a cleaner level, given x at a noisier one and x_0: a Gaussian.

    .. math:: q(x_s \mid x_t, x_0) = N(a\, x_t + b\, x_0,\; v), \qquad \text{and without } x_0 \text{ at most } V

    Attributes:
        of_noisy: a.
        of_clean: b.
        variance: v.
        largest: V, variance of the noise that leads from the cleaner level to the noisier one.
    """

    of_noisy: Tensor | float
    of_clean: Tensor | float
    variance: Tensor | float
    largest: Tensor | float


def reverse_step(now: AlphaSigma, after: AlphaSigma) -> ReverseStep:
    r"""What stands in the reverse step from a level :math:`t` to a cleaner one :math:`s`.

    .. math:: V = \sigma_t^2 - \tfrac{\alpha_t^2}{\alpha_s^2} \sigma_s^2, \qquad a = \tfrac{\alpha_t}{\alpha_s}
        \tfrac{\sigma_s^2}{\sigma_t^2}, \qquad b = \alpha_s \tfrac{V}{\sigma_t^2}, \qquad v = V
        \tfrac{\sigma_s^2}{\sigma_t^2}

    Args:
        now: t.
        after: s.

    Reference: Kingma et al., Variational Diffusion Models (2021), appendix A.
    """
    ratio, left = now.alpha / after.alpha, (after.sigma / now.sigma) ** 2
    largest = now.sigma**2 - (ratio * after.sigma) ** 2
    return ReverseStep(ratio * left, after.alpha * largest / now.sigma**2, largest * left, largest)


class ReverseSteps(NamedTuple):
    """The reverse steps of a process of K levels, each to the level below it; in double precision.

    Attributes:
        of_noisy: factor on x, ``[K]``.
        of_clean: factor on x_0, ``[K]``.
        log_small: logarithm of the posterior's variance; the first, which is 0, counts as the second, ``[K]``.
        log_large: logarithm of beta, ``[K]``.
    """

    of_noisy: Tensor
    of_clean: Tensor
    log_small: Tensor
    log_large: Tensor


def reverse_steps(betas: Float[Tensor, " steps"]) -> ReverseSteps:
    """The reverse steps of diffusion with these betas.

    Args:
        betas: of the K levels.

    Reference: Ho et al., Denoising Diffusion Probabilistic Models (2020), eq. 7.
    """
    betas = betas.double()
    shares = (1.0 - betas).cumprod(0)
    before = torch.cat([shares.new_ones(1), shares[:-1]])
    variance = betas * (1.0 - before) / (1.0 - shares)
    if len(betas) > 1:
        variance = torch.cat([variance[1:2], variance[1:]])
    else:
        variance = betas
    return ReverseSteps(
        (1.0 - before) * (1.0 - betas).sqrt() / (1.0 - shares),
        betas * before.sqrt() / (1.0 - shares),
        variance.log(),
        betas.log(),
    )
