"""MuZero's scale for rewards and values, and numbers as distributions over bins on that scale."""

import torch
from jaxtyping import Float
from torch import Tensor

from wmcomponents.functional.precision import at_least_float32

EPS = 1e-3
"""Slope that keeps h invertible where its root flattens (Pohlen et al. 2018; MuZero, appendix F)."""


def value_transform(x: Float[Tensor, "*batch"], eps: float = EPS) -> Float[Tensor, "*batch"]:
    r"""Squash a number of any size (Pohlen et al., Observe and Look Further, proposition A.2; MuZero, appendix F).

    .. math:: h(x) = \text{sign}(x) (\sqrt{|x| + 1} - 1) + \epsilon x

    Args:
        x: rewards or returns in env units.
        eps: slope at infinity, positive.
    """
    return x.sign() * ((x.abs() + 1.0).sqrt() - 1.0) + eps * x


def lifted_value_transform(x: Float[Tensor, "*batch"], eps: float = EPS) -> Float[Tensor, "*batch"]:
    """EfficientZero-V2's transform for Atari, which adds ``eps |x|`` in the place of ``eps x``.

    It agrees with :func:`value_transform` for positive numbers, and is decoded by the same inverse, so that negative
    ones come back a little smaller in size.

    Args:
        x: in env units.
        eps: slope at infinity.
    """
    return x.sign() * ((x.abs() + 1.0).sqrt() - 1.0) + eps * x.abs()


def inverse_value_transform(
    y: Float[Tensor, "*batch"], eps: float = EPS, dead_zone: float = 0.0
) -> Float[Tensor, "*batch"]:
    r"""The inverse of :func:`value_transform`.

    .. math:: h^{-1}(y) = \text{sign}(y) \left(\left(\frac{\sqrt{1 + 4 \epsilon (|y| + 1 + \epsilon)} - 1}
        {2 \epsilon}\right)^2 - 1\right)

    Computed without differences of nearly equal numbers, in which float32 would lose digits (the papers' codes are off
    by about 1e-4 between 0 and 100): with :math:`s` the root and :math:`t` the fraction,
    :math:`t = 2 (|y| + 1 + \epsilon) / (s + 1)`, :math:`t - 1 = |y| (2 - 4 \epsilon / (s + 1 + 2 \epsilon)) / (s + 1)`.

    Args:
        y: on the transformed scale.
        eps: as in the transform.
        dead_zone: results of a smaller size than this become 0 (EfficientZero: 1e-3, which hides the rounding near
            zero; muzero-general, LightZero: 0, nothing is touched). What is not a number stays so: the authors' code
            makes 0 of it, which here would hide weights that have diverged.
    """
    size = y.abs()
    root = (1.0 + 4.0 * eps * (size + 1.0 + eps)).sqrt()
    fraction = 2.0 * (size + 1.0 + eps) / (root + 1.0)
    less_one = size * (2.0 - 4.0 * eps / (root + 1.0 + 2.0 * eps)) / (root + 1.0)
    x = y.sign() * less_one * (fraction + 1.0)
    if dead_zone:
        x = torch.where(x.abs() < dead_zone, torch.zeros_like(x), x)
    return x


def decode_from_support(
    logits: Float[Tensor, "*batch bins"], bins: Float[Tensor, " bins"], eps: float = EPS, dead_zone: float = 0.0
) -> Float[Tensor, "*batch"]:
    """The number, in env units, of the expected bin under ``softmax(logits)``.

    Args:
        logits: unnormalised log probabilities.
        bins: increasing bin centres on the scale of h: integers -300..300 in MuZero, 51 evenly spaced in
            EfficientZero-V2's continuous control.
        eps: of the transform.
        dead_zone: of :func:`inverse_value_transform`.
    """
    expected = (at_least_float32(logits).softmax(-1) * bins).sum(-1)
    return inverse_value_transform(expected, eps, dead_zone)
