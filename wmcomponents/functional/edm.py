"""Diffusion as EDM sees it: preconditioning, noise levels, targets and weights, independent of any network."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

from wmcomponents.functional.broadcast import aligned


class EDMCoefficients(NamedTuple):
    r"""What stands around the network in :math:`D(x, \sigma) = c_{skip} x + c_{out} F(c_{in} x, c_{noise})`.

    Attributes:
        c_in: brings the noisy input to unit variance, ``[*B]``.
        c_skip: of the noisy input in the output, ``[*B]``.
        c_out: of the network's output, ``[*B]``.
        c_noise: how the network is told the noise level, ``[*B]``.
    """

    c_in: Tensor
    c_skip: Tensor
    c_out: Tensor
    c_noise: Tensor


def edm_coefficients(
    sigma: Float[Tensor, "*batch"], sigma_data: float = 0.5, sigma_offset: float = 0.0
) -> EDMCoefficients:
    r"""The preconditioning of a noise level.

    .. math::
        s^2 &= \sigma^2 + \sigma_{offset}^2, \qquad c_{in} = (s^2 + \sigma_{data}^2)^{-1/2} \\
        c_{skip} &= \sigma_{data}^2 / (s^2 + \sigma_{data}^2), \qquad c_{out} = s \sqrt{c_{skip}}, \qquad
        c_{noise} = \ln(s) / 4

    Args:
        sigma: standard deviation of the noise, positive unless ``sigma_offset`` is.
        sigma_data: standard deviation of the data.
        sigma_offset: standard deviation of further noise that all pixels of a channel share; it enters all four
            coefficients (DIAMOND), and 0 leaves EDM's own.

    Reference: Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models (2022), table 1; Alonso
    et al., DIAMOND (2024), section 3.1.
    """
    sigma = (sigma**2 + sigma_offset**2).sqrt()
    total = sigma**2 + sigma_data**2
    c_skip = sigma_data**2 / total
    return EDMCoefficients(1.0 / total.sqrt(), c_skip, sigma * c_skip.sqrt(), sigma.log() / 4.0)


def edm_loss_weight(
    sigma: Float[Tensor, "*batch"], sigma_data: float = 0.5, sigma_offset: float = 0.0
) -> Float[Tensor, "*batch"]:
    r"""EDM's weight :math:`1 / c_{out}^2` of the squared error of D, which makes it the squared error of F.

    Args:
        sigma: noise level.
        sigma_data: standard deviation of the data.
        sigma_offset: standard deviation of the noise that all pixels of a channel share.
    """
    return edm_coefficients(sigma, sigma_data, sigma_offset).c_out ** -2


def edm_target(
    clean: Float[Tensor, "n c *space"], noisy: Float[Tensor, "n c *space"], coefficients: EDMCoefficients
) -> Float[Tensor, "n c *space"]:
    r"""What F should say: :math:`(x - c_{skip} \tilde x) / c_{out}`.

    Args:
        clean: x.
        noisy: x with noise.
        coefficients: one of each row, ``[n]``.
    """
    return (clean - aligned(coefficients.c_skip, clean) * noisy) / aligned(coefficients.c_out, clean)


def log_normal_sigma(
    normal: Float[Tensor, "*batch"],
    loc: float = -0.4,
    scale: float = 1.2,
    sigma_min: float = 0.002,
    sigma_max: float = 20.0,
) -> Float[Tensor, "*batch"]:
    r"""Noise levels to train on: :math:`\ln \sigma \sim N(loc, scale^2)`, clipped.

    Args:
        normal: standard normal noise.
        loc: mean of the logarithm: -0.4 for Atari, -1.2 for CS:GO and in EDM.
        scale: its standard deviation.
        sigma_min: smallest level.
        sigma_max: largest level.
    """
    return (normal * scale + loc).exp().clip(sigma_min, sigma_max)


def with_noise(
    clean: Float[Tensor, "n c *space"],
    sigma: Float[Tensor, " n"],
    noise: Float[Tensor, "n c *space"],
    offset_noise: Float[Tensor, "n c *ones"] | None = None,
    sigma_offset: float = 0.0,
) -> Float[Tensor, "n c *space"]:
    r"""Data with noise: :math:`x + \sigma_{offset} n_1 + \sigma n_2`.

    Args:
        clean: x.
        sigma: level of each row.
        noise: n_2, standard normal.
        offset_noise: n_1, standard normal, one number a row and channel.
        sigma_offset: of n_1.
    """
    if offset_noise is not None:
        clean = clean + sigma_offset * offset_noise
    return clean + noise * aligned(sigma, clean)


def karras_sigmas(
    steps: int,
    sigma_min: float = 0.002,
    sigma_max: float = 5.0,
    rho: float = 7.0,
    device: torch.device | str | None = None,
) -> Float[Tensor, " levels"]:
    r"""Noise levels to sample along, falling, and 0 at the end.

    .. math:: \sigma_i = (\sigma_{max}^{1/\rho} + \tfrac{i}{n-1} (\sigma_{min}^{1/\rho} - \sigma_{max}^{1/\rho}))^\rho

    Args:
        steps: n; a single step goes from ``sigma_max`` to 0.
        sigma_min: the last level before 0.
        sigma_max: the first.
        rho: how much the levels crowd at the low end.
        device: of the result.

    Returns:
        ``[steps + 1]``.

    Raises:
        ValueError: unless there is a step and ``0 < sigma_min <= sigma_max``.

    Reference: Karras et al. (2022), eq. 5.
    """
    if steps < 1 or not 0 < sigma_min <= sigma_max:
        raise ValueError(
            f"a schedule has at least one step and 0 < sigma_min <= sigma_max; got steps={steps}, "
            f"sigma_min={sigma_min}, sigma_max={sigma_max}."
        )
    low, high = sigma_min ** (1.0 / rho), sigma_max ** (1.0 / rho)
    sigmas = (high + torch.linspace(0.0, 1.0, steps, device=device) * (low - high)) ** rho
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def on_byte_grid(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Clamped to [-1, 1] and cut down to one of 256 levels (DIAMOND's quantisation inside the denoiser).

    The fraction is cut off, not rounded. In float32 that takes the levels 1 to 63 one down when they are given to it
    again, since 255 b / 255 then ends just below b; the level 0 and those from 64 are kept.

    Args:
        x: images in [-1, 1], or beyond.
    """
    return from_bytes(x.clamp(-1.0, 1.0).add(1.0).div(2.0).mul(255.0).to(torch.uint8))


def from_bytes(pixels: Shaped[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Bytes as floats in [-1, 1]."""
    return pixels.to(torch.float32).div(255.0).mul(2.0).sub(1.0)


def to_bytes(x: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """Floats in [-1, 1] as the nearest bytes; undoes :func:`from_bytes` exactly."""
    return x.clamp(-1.0, 1.0).add(1.0).mul(127.5).round().to(torch.uint8)
