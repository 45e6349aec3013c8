"""How fast data drowns in noise: the schedules of variance-preserving diffusion, in double precision."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

MOST = 0.999
"""Largest beta of the schedules that are given by what remains of the data."""


def linear_betas(steps: int = 1000, first: float = 1e-4, last: float = 2e-2) -> Float[Tensor, " steps"]:
    r"""Betas that grow evenly; those of 1000 steps, made larger where the steps are fewer.

    .. math:: \beta_k = \tfrac{1000}{K} (first + \tfrac{k}{K - 1} (last - first))

    Args:
        steps: K.
        first: the first beta of 1000.
        last: the last beta of 1000.

    Raises:
        ValueError: unless there is a step, and every beta lies between 0 and 1.

    Reference: Ho et al., Denoising Diffusion Probabilistic Models (2020), section 4.
    """
    _check_steps(steps)
    scale = 1000.0 / steps
    if not 0.0 < scale * first <= scale * last <= 1.0:
        raise ValueError(
            f"betas lie between 0 and 1 and do not fall; {steps} steps from {first} to {last}, times {scale:g}, go "
            f"from {scale * first:g} to {scale * last:g}: take more steps, or smaller numbers."
        )
    return torch.linspace(scale * first, scale * last, steps, dtype=torch.float64, device="cpu")


def cosine_betas(steps: int = 1000, offset: float = 0.008) -> Float[Tensor, " steps"]:
    r"""Betas whose share of the data falls as a squared cosine.

    .. math:: \bar\alpha(u) = \cos^2(\tfrac{\pi}{2} \tfrac{u + s}{1 + s}) / \cos^2(\tfrac{\pi}{2} \tfrac{s}{1 + s})

    Args:
        steps: K.
        offset: s.

    Raises:
        ValueError: unless there is a step, and ``offset`` is at least 0.

    Reference: Nichol and Dhariwal, Improved Denoising Diffusion Probabilistic Models (2021), eq. 17.
    """
    _check_steps(steps)
    if offset < 0.0:
        raise ValueError(f"offset is at least 0; got {offset}.")
    u = torch.linspace(0.0, 1.0, steps + 1, dtype=torch.float64, device="cpu")
    return _betas_of(((u + offset) / (1.0 + offset) * (math.pi / 2.0)).cos() ** 2)


def sigmoid_betas(
    steps: int = 1000, start: float = -3.0, end: float = 3.0, tau: float = 1.0
) -> Float[Tensor, " steps"]:
    r"""Betas whose share of the data falls as a piece of a sigmoid.

    .. math:: \bar\alpha(u) = \frac{\sigma(e / \tau) - \sigma((u (e - s) + s) / \tau)}{\sigma(e / \tau) -
        \sigma(s / \tau)}

    Args:
        steps: K.
        start: s, where the piece begins.
        end: e, where it ends.
        tau: temperature: the larger, the nearer to a straight line.

    Raises:
        ValueError: unless there is a step, ``start < end`` and ``tau`` is positive.

    Reference: Jabri et al., Scalable Adaptive Computation for Iterative Generation (2022); Chen, On the Importance of
    Noise Scheduling for Diffusion Models (2023), section 2.
    """
    _check_steps(steps)
    if not (start < end and tau > 0.0):
        raise ValueError(f"the piece of the sigmoid needs start < end and tau > 0; got {start}, {end}, {tau}.")
    u = torch.linspace(0.0, 1.0, steps + 1, dtype=torch.float64, device="cpu")
    # The ends in single precision, as the official codes have them: that decides how much is left at the last levels.
    low, high = (torch.tensor(x / tau, dtype=torch.float32, device="cpu").sigmoid().double() for x in (start, end))
    return _betas_of((high - ((u * (end - start) + start) / tau).sigmoid()) / (high - low))


def alphas_cumprod(betas: Float[Tensor, " steps"]) -> Float[Tensor, " steps"]:
    r"""Share of the data's variance that is left at each level, :math:`\bar\alpha_k = \prod_{j \le k} (1 - \beta_j)`.

    Args:
        betas: of each level.
    """
    return (1.0 - betas).cumprod(0)


def betas_between(shares: Float[Tensor, " steps"]) -> Float[Tensor, " steps"]:
    r"""The betas that lead from level to level, from clean data on: :math:`1 - \bar\alpha_k / \bar\alpha_{k-1}`.

    Undoes :func:`alphas_cumprod`; of some of its levels it gives the process that visits only those.

    Args:
        shares: of the data's variance at each level.
    """
    return 1.0 - shares / torch.cat([shares.new_ones(1), shares[:-1]])


def _betas_of(shares: Tensor) -> Tensor:
    """Betas of the shares ``[steps + 1]`` of the data's variance, up to a factor."""
    shares = shares / shares[0]
    return (1.0 - shares[1:] / shares[:-1]).clamp(0.0, MOST)


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"a schedule has at least one step; got {steps}.")
