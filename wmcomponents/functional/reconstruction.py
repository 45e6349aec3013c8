"""Reconstruction errors, summed over the event: every function returns ``[*batch]``."""

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from wmcomponents.functional.distributions.gaussian import LOG_2PI
from wmcomponents.functional.precision import at_least_float32


def _sum_event(error: Tensor, event_dims: int) -> Tensor:
    return error if event_dims == 0 else error.flatten(-event_dims).sum(-1)


def squared_error(
    prediction: Float[Tensor, "*shape"],
    target: Float[Tensor, "*shape"],
    event_dims: int = 1,
    squash: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Sum over the event of ``(prediction - squash(target))^2``: no factor 1/2, as in DreamerV3's code.

    Args:
        prediction: in the squashed space, ``[*B, *event]``.
        target: in the plain space, ``[*B, *event]``; no gradient reaches it.
        event_dims: how many trailing dimensions make one event.
        squash: for example :func:`symlog`; None leaves the target as it is.
    """
    target = target.detach() if squash is None else squash(target.detach())
    return _sum_event((prediction - target).square(), event_dims)


def unit_normal_nll(
    prediction: Float[Tensor, "*shape"], target: Float[Tensor, "*shape"], event_dims: int = 1
) -> Tensor:
    r"""Negative log density of the target under a normal of standard deviation 1 around the prediction.

    .. math:: \sum \tfrac12 (x - \mu)^2 + \tfrac12 \ln 2\pi

    It has the factor 1/2 and the constant that :func:`squared_error` leaves out: PlaNet, Dreamer, DreamerV2.

    Args:
        prediction: the mean.
        target: no gradient reaches it.
        event_dims: how many trailing dimensions make one event.
    """
    error = 0.5 * (prediction - target.detach()).square() + 0.5 * LOG_2PI
    return _sum_event(error, event_dims)


def bernoulli_cross_entropy(
    logits: Float[Tensor, "*shape"], target: Float[Tensor, "*shape"], event_dims: int = 1
) -> Tensor:
    """Sum over the event of the binary cross entropy; ``target`` may be soft, in [0, 1]."""
    logits = at_least_float32(logits)
    error = F.binary_cross_entropy_with_logits(logits, target.detach().to(logits.dtype), reduction="none")
    return _sum_event(error, event_dims)


def categorical_cross_entropy(
    logits: Float[Tensor, "*batch k"], target: Float[Tensor, "*batch k"], event_dims: int = 0
) -> Tensor:
    """Cross entropy of one-hot (or soft) targets, summed over the classes and ``event_dims`` dimensions before them."""
    return _sum_event(-(target.detach() * at_least_float32(logits).log_softmax(-1)).sum(-1), event_dims)
