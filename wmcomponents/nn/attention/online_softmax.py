"""Attention over keys that come in parts: softmax with a running maximum, and its gradients part by part."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from wmcomponents.functional.precision import at_least_float32


class Carry(NamedTuple):
    """What queries know of the keys that they have seen, in float32 at least.

    Attributes:
        numerator: sum of values, each times exp(score - maximum), ``[*B, Q, d]``.
        denominator: sum of these factors, ``[*B, Q]``.
        maximum: the highest score, ``[*B, Q]``; the least finite number where nothing was seen.
    """

    numerator: Tensor
    denominator: Tensor
    maximum: Tensor

    @classmethod
    def empty(cls, q: Float[Tensor, "*batch q d"], value_dim: int) -> "Carry":
        """Of queries that have seen nothing.

        Args:
            q: the queries.
            value_dim: size of a value.
        """
        like = at_least_float32(q[..., 0])
        least = torch.full_like(like, torch.finfo(like.dtype).min)
        return cls(like.new_zeros(*like.shape, value_dim), torch.zeros_like(like), least)

    def output(self) -> Float[Tensor, "*batch q d"]:
        """The mean of the values seen, weighted by the softmax of their scores; 0 where nothing was seen."""
        seen = self.denominator.unsqueeze(-1)
        return torch.where(seen > 0, self.numerator / seen, 0.0)

    def log_sum_exp(self) -> Float[Tensor, "*batch q"]:
        """Logarithm of the sum of exp(score); infinity where nothing was seen, so that exp(score - it) is 0."""
        return torch.where(self.denominator > 0, self.maximum + self.denominator.log(), float("inf"))


def scores(
    q: Float[Tensor, "*batch q d"], k: Float[Tensor, "*batch k d"], scale: float, mask: Tensor | None
) -> Float[Tensor, "*batch q k"]:
    """Products of queries and keys, in float32 at least; minus infinity where a key is hidden.

    Args:
        q: queries.
        k: keys.
        scale: factor on the products.
        mask: bool, true where a key is seen, or numbers to add; broadcast to ``[*B, Q, K]``.
    """
    found = at_least_float32(q) @ at_least_float32(k).mT
    found.mul_(scale)
    if mask is None:
        return found
    return found.masked_fill_(~mask, float("-inf")) if mask.dtype == torch.bool else found.add_(mask)


def absorb(
    carry: Carry,
    q: Float[Tensor, "*batch q d"],
    k: Float[Tensor, "*batch k d"],
    v: Float[Tensor, "*batch k e"],
    *,
    scale: float,
    mask: Tensor | None = None,
    kept: Float[Tensor, "*batch q k"] | None = None,
) -> Carry:
    r"""Queries see some more keys.

    .. math::
        m' = \max(m, \max_k S), \quad n' = n e^{m - m'} + e^{S - m'} V, \quad d' = d e^{m - m'} + \sum_k e^{S - m'}

    Args:
        carry: what they know.
        q: queries.
        k: keys.
        v: values.
        scale: factor on the products.
        mask: see :func:`scores`.
        kept: dropout's factors on the weights of values, 0 or 1 / (1 - p); the denominator is of all.

    Reference: Milakov and Gimelshein, Online normalizer calculation for softmax (2018); Liu and Abbeel, Blockwise
    Parallel Transformer (2023), section 2.
    """
    weights = scores(q, k, scale, mask)
    maximum = torch.maximum(carry.maximum, weights.amax(-1))
    weights = weights.sub_(maximum.unsqueeze(-1)).exp_()
    before = (carry.maximum - maximum).exp()
    denominator = carry.denominator * before + weights.sum(-1)
    weights = weights if kept is None else weights.mul_(kept)
    numerator = (carry.numerator * before.unsqueeze(-1)).add_(weights @ at_least_float32(v))
    return Carry(numerator, denominator, maximum)


class PartGradients(NamedTuple):
    """Gradients from one part of the keys, in float32 at least: of queries, keys and values."""

    q: Tensor
    k: Tensor
    v: Tensor


def part_gradients(
    q: Float[Tensor, "*batch q d"],
    k: Float[Tensor, "*batch k d"],
    v: Float[Tensor, "*batch k e"],
    gradient: Float[Tensor, "*batch q e"],
    log_sum_exp: Float[Tensor, "*batch q"],
    inner: Float[Tensor, "*batch q"],
    *,
    scale: float,
    mask: Tensor | None = None,
    kept: Float[Tensor, "*batch q k"] | None = None,
) -> PartGradients:
    r"""What some keys contribute to the gradients, the softmax being over all of them.

    .. math:: P = e^{S - L}, \quad dV = P^T g, \quad dS = P \circ (g V^T - D), \quad dQ = dS\, K, \quad dK = dS^T Q

    Args:
        q: queries.
        k: these keys.
        v: their values.
        gradient: g, of the output.
        log_sum_exp: L, of the queries over all keys.
        inner: D, the sum of gradient times output over the output's entries.
        scale: factor on the products.
        mask: see :func:`scores`.
        kept: see :func:`absorb`.
    """
    weights = scores(q, k, scale, mask).sub_(log_sum_exp.unsqueeze(-1)).exp_()
    gradient = at_least_float32(gradient)
    of_weights = gradient @ at_least_float32(v).mT
    if kept is None:
        of_v = weights.mT @ gradient
    else:
        of_v = (weights * kept).mT @ gradient
        of_weights = of_weights.mul_(kept)
    of_scores = of_weights.sub_(inner.unsqueeze(-1)).mul_(weights).mul_(scale)
    return PartGradients(of_scores @ at_least_float32(k), of_scores.mT @ at_least_float32(q), of_v)


def merged(carries: Carry) -> Carry:
    """Several carries of the same queries over different keys as one.

    Args:
        carries: side by side, in a first dimension.
    """
    maximum = carries.maximum.amax(0)
    share = (carries.maximum - maximum).exp()
    numerator = (carries.numerator * share.unsqueeze(-1)).sum(0)
    return Carry(numerator, (carries.denominator * share).sum(0), maximum)


def kept_factors(shape: torch.Size, dropout: float, seed: int, device: torch.device) -> Float[Tensor, "*batch q k"]:
    """Dropout's factors, 0 or 1 / (1 - p), which a seed gives again: they need not be kept for the backward pass.

    Args:
        shape: of the weights.
        dropout: p, the share that is dropped.
        seed: of the draw.
        device: of the factors.
    """
    generator = torch.Generator(device).manual_seed(seed)
    return (torch.rand(shape, generator=generator, device=device) >= dropout).float().div_(1.0 - dropout)
