"""A generator is moved to where real data are likelier than what it gives itself (distribution matching)."""

import torch
from jaxtyping import Float
from torch import Tensor


def matching_gradient(
    generated: Float[Tensor, "n t *event"], real: Float[Tensor, "n t *event"], fake: Float[Tensor, "n t *event"]
) -> Float[Tensor, "n t *event"]:
    r"""The direction in which generated data are to be left, without gradient.

    .. math:: g = \frac{\mu_{fake}(x_t) - \mu_{real}(x_t)}{\overline{|x - \mu_{real}(x_t)|}}

    where both guess the data x from the same noisy :math:`x_t`, and the mean is over what a row holds.

    Args:
        generated: x.
        real: the guess of a model of the data.
        fake: of a model of what the generator gives.

    Reference: Yin et al., One-step Diffusion with Distribution Matching Distillation (2024), eqs. 7 and 8, and the code
    of CausVid.
    """
    x, real, fake = (value.detach().double() for value in (generated, real, fake))
    size = (x - real).abs().flatten(1).mean(1).clamp_min(torch.finfo(torch.float32).tiny)
    return (fake - real) / size.view(-1, *(1,) * (x.ndim - 1))


def distribution_matching(
    generated: Float[Tensor, "n t *event"], real: Float[Tensor, "n t *event"], fake: Float[Tensor, "n t *event"]
) -> Float[Tensor, "n t *event"]:
    r"""Element by element :math:`\frac12 (x - sg[x - g])^2`, whose gradient is g, see :func:`matching_gradient`.

    Args:
        generated: x.
        real: see there.
        fake: see there.

    Returns:
        In double precision.
    """
    x = generated.double()
    return 0.5 * (x - (x.detach() - matching_gradient(generated, real, fake))).square()
