"""Free nats and two-sided divergences: PlaNet's and each Dreamer's own way to leave some information free."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def free_nats(kl: Float[Tensor, "*batch"], nats: float | Float[Tensor, ""] = 1.0) -> Float[Tensor, "*batch"]:
    """``max(kl, nats)`` for each element: below the threshold the gradient is zero (DreamerV3, eq. 5).

    The divergence is clipped for each batch row and time step, after the sum over latent variables; not for their mean,
    nor for each latent variable.
    """
    return kl.clamp(min=nats)


def excess_nats(kl: Float[Tensor, "*batch"], nats: float | Float[Tensor, ""] = 3.0) -> Float[Tensor, "*batch"]:
    """``max(kl - nats, 0)`` for each element: gradients as of :func:`free_nats`, a loss that reaches 0 (PlaNet)."""
    return (kl - nats).clamp(min=0.0)


def averaged_free_nats(
    kl: Float[Tensor, "*batch"], nats: float | Float[Tensor, ""] = 3.0, weight: Float[Tensor, "*batch"] | None = None
) -> Float[Tensor, "*batch"]:
    """Elements whose mean is ``max(mean(kl), nats)``: all of ``kl``, or all ``nats`` without gradient.

    The divergence of the whole batch is clipped, not that of each element (Dreamer V1; Dreamer V2's ``free_avg``).

    Args:
        kl: divergences, in nats.
        nats: the threshold of their mean.
        weight: of each element in the mean; equal if not given.
    """
    value = kl.detach()
    mean = value.mean() if weight is None else (value * weight).sum() / weight.sum().clamp_min(1e-8)
    return torch.where(mean > nats, kl, torch.ones_like(kl) * nats)


def split_kl(
    kl: Callable[[Tensor, Tensor], Tensor], posterior: Tensor, prior: Tensor
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """One divergence twice: ``KL(sg(q) || p)``, which trains the prior, and ``KL(q || sg(p))``, for the posterior.

    Args:
        kl: the divergence of the latent, for example ``RSSM.latent.kl``: ``(raw_q, raw_p) -> [*batch]``.
        posterior: raw parameters of q, ``[*batch, params]``.
        prior: raw parameters of p, ``[*batch, params]``.
    """
    return kl(posterior.detach(), prior), kl(posterior, prior.detach())


def mixed_kl(
    kl: Callable[[Tensor, Tensor], Tensor],
    posterior: Tensor,
    prior: Tensor,
    balance: float = 0.8,
    free: Callable[[Tensor], Tensor] = free_nats,
) -> Float[Tensor, "*batch"]:
    r"""KL balancing (Dreamer V2, Algorithm 2): ``balance`` of the gradient trains the prior.

    .. math:: L = \alpha f(KL(sg(q) \| p)) + (1 - \alpha) f(KL(q \| sg(p)))

    At ``balance=0.5`` the official code takes one divergence without stops, whose gradient is twice that of the
    formula; so does this function.

    Args:
        kl: the divergence of the latent: ``(raw_q, raw_p) -> [*batch]``.
        posterior: raw parameters of q, ``[*batch, params]``.
        prior: raw parameters of p, ``[*batch, params]``.
        balance: alpha, in [0, 1].
        free: what leaves some nats free: :func:`free_nats` or :func:`averaged_free_nats`, with its threshold.
    """
    if balance == 0.5:
        return free(kl(posterior, prior))
    dyn, rep = split_kl(kl, posterior, prior)
    return balance * free(dyn) + (1.0 - balance) * free(rep)


def balanced_kl(
    kl: Callable[[Tensor, Tensor], Tensor], posterior: Tensor, prior: Tensor, nats: float | Float[Tensor, ""] = 1.0
) -> tuple[Tensor, Tensor]:
    r"""Dynamics and representation losses, each free below ``nats`` (DreamerV3, eq. 5).

    .. math:: L_{dyn} = \max(n, KL(sg(q) \| p)), \quad L_{rep} = \max(n, KL(q \| sg(p)))

    Args:
        kl: the divergence of the latent, for example ``RSSM.latent.kl``: ``(raw_q, raw_p) -> [*batch]``.
        posterior: raw parameters of q, ``[*batch, params]``.
        prior: raw parameters of p, ``[*batch, params]``.
        nats: the threshold, in nats.

    Returns:
        The dynamics loss and the representation loss, each ``[*batch]``.
    """
    dyn, rep = split_kl(kl, posterior, prior)
    return free_nats(dyn, nats), free_nats(rep, nats)
