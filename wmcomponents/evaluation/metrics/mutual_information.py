"""How much one choice tells of another."""

import torch
from jaxtyping import Int, Shaped
from torch import Tensor


def mutual_information(counts: Shaped[Tensor, "a b"]) -> float:
    r"""Bits that one of two choices tells of the other, from how often each pair was seen together.

    .. math:: I = \sum_{ab} p_{ab} \log_2 \frac{p_{ab}}{p_a p_b}

    0 where neither tells anything of the other, the entropy of one where the other tells it. Of few samples it comes
    out too large, by about :math:`(A - 1)(B - 1) / (2 N \ln 2)` where there is nothing to tell.

    Args:
        counts: of the pairs, at least one.

    Raises:
        ValueError: if nothing was counted, or a count is below 0.

    >>> mutual_information(torch.eye(4)), mutual_information(torch.ones(3, 2))
    (2.0, 0.0)
    """
    if counts.ndim != 2 or not bool((counts >= 0).all()) or float(counts.sum()) <= 0:
        raise ValueError(f"pairs are counted in a table [A, B] of numbers from 0 on, not all 0; got {counts!r:.80}.")
    p = counts.double() / counts.double().sum()
    apart = p.sum(1, keepdim=True) * p.sum(0, keepdim=True)
    return float(torch.where(p > 0, p * (p / apart.clamp_min(1e-300)).log2(), 0.0).sum().clamp_min(0.0))


def entropy_bits(counts: Int[Tensor, " a"] | Shaped[Tensor, " a"]) -> float:
    """Bits of a choice, from how often each value was seen: what :func:`mutual_information` can come to at most.

    >>> entropy_bits(torch.tensor([1, 1, 2]))
    1.5
    """
    p = counts.double() / counts.double().sum()
    return float(-torch.where(p > 0, p * p.clamp_min(1e-300).log2(), 0.0).sum())
