"""One-hot categorical variables: uniform mixing, sampling from given noise, entropy, divergence."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from wmcomponents.functional.precision import at_least_float32

# Fewer classes than this do not fill a vector register: torch's CPU softmax then takes them one by one.
_VECTOR = 16


def softmax(logits: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch k"]:
    """Softmax over the last dimension, in float32 at least; on a CPU some ten times faster for a few classes."""
    logits = at_least_float32(logits)
    if logits.device.type == "cpu" and logits.shape[-1] < _VECTOR and logits.ndim > 1:
        return logits.movedim(-1, 0).softmax(0).movedim(0, -1)
    return logits.softmax(-1)


def cross_entropy(logits: Float[Tensor, "*batch k"], target: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Minus the logarithm of the target's probability, element by element.

    Example:
        >>> cross_entropy(torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.int64)).shape
        torch.Size([2, 3])
    """
    flat = logits.reshape(-1, logits.shape[-1])
    return F.cross_entropy(flat, target.reshape(-1), reduction="none").view(target.shape)


def unimix_probs(logits: Float[Tensor, "*batch k"], unimix: float = 0.01) -> Float[Tensor, "*batch k"]:
    """Probabilities of ``logits`` mixed with ``unimix`` parts of the uniform distribution (DreamerV3, 1 %).

    The floor of ``unimix / k`` under every class keeps divergences finite and gradients alive.
    """
    probs = softmax(logits)
    return probs if unimix == 0 else probs * (1.0 - unimix) + unimix / logits.shape[-1]


def unimix_log_probs(logits: Float[Tensor, "*batch k"], unimix: float = 0.01) -> Float[Tensor, "*batch k"]:
    """Logarithm of :func:`unimix_probs`, normalised; stable for ``unimix=0``."""
    if unimix == 0:
        return at_least_float32(logits).log_softmax(-1)
    return unimix_probs(logits, unimix).log()


def one_hot(index: Int[Tensor, "*batch"], classes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """One-hot vectors ``[*batch, classes]``; an index outside the range gives zeros. Never waits for a device."""
    return (index.unsqueeze(-1) == torch.arange(classes, device=index.device)).to(dtype)


def inverse_cdf_index(probs: Float[Tensor, "*batch k"], noise: Float[Tensor, "*batch"]) -> Int[Tensor, "*batch"]:
    """Class whose slice of the cumulative distribution holds ``noise`` in [0, 1)."""
    cdf = probs[..., :-1].cumsum(-1)  # the last class takes what rounding leaves over
    return (cdf <= noise.unsqueeze(-1)).sum(-1)


def inverse_cdf_one_hot(probs: Float[Tensor, "*batch k"], noise: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch k"]:
    """One-hot sample of ``probs`` as a deterministic function of uniform ``noise`` in [0, 1); carries no gradient."""
    return one_hot(inverse_cdf_index(probs.detach(), noise), probs.shape[-1], probs.dtype)


def mode_one_hot(probs: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch k"]:
    """One-hot vector of the most probable class; carries no gradient."""
    return one_hot(probs.argmax(-1), probs.shape[-1], probs.dtype)


def straight_through(sample: Float[Tensor, "*batch k"], probs: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch k"]:
    """The value of ``sample``, exactly, with the gradient of ``probs``."""
    return sample + (probs - probs.detach()) if probs.requires_grad else sample


def categorical_entropy(log_probs: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch"]:
    """Entropy in nats of normalised log probabilities."""
    return -(log_probs.exp() * log_probs).sum(-1)


def categorical_log_prob(
    log_probs: Float[Tensor, "*batch k"], event: Float[Tensor, "*batch k"] | Bool[Tensor, "*batch k"]
) -> Float[Tensor, "*batch"]:
    """Log probability of a one-hot ``event`` (or the negative cross entropy of a soft one)."""
    return (log_probs * event).sum(-1)


def categorical_kl(log_p: Float[Tensor, "*batch k"], log_q: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch"]:
    """KL(p || q) in nats of normalised log probabilities."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)
