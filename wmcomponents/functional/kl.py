"""Free nats and the two-sided divergence of the Dreamer world models."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor


def free_nats(kl: Float[Tensor, "*batch"], nats: float | Tensor = 1.0) -> Float[Tensor, "*batch"]:
    """``max(kl, nats)`` for each element: below the threshold the gradient is zero (DreamerV3, eq. 5).

    The divergence is clipped for each batch row and time step, after the sum over latent variables; not for their mean,
    nor for each latent variable.
    """
    return kl.clamp(min=nats)


def balanced_kl(
    kl: Callable[[Tensor, Tensor], Tensor], posterior: Tensor, prior: Tensor, nats: float | Tensor = 1.0
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
    dyn = free_nats(kl(posterior.detach(), prior), nats)
    rep = free_nats(kl(posterior, prior.detach()), nats)
    return dyn, rep
