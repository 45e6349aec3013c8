"""One reverse step from a noisy x to a cleaner one; all noise comes from outside."""

import torch
from jaxtyping import Float
from torch import Tensor

from wmcomponents.functional.diffusion.path import AlphaSigma
from wmcomponents.functional.diffusion.targets import Denoised


def ddim_step(
    guess: Denoised,
    now: AlphaSigma,
    after: AlphaSigma,
    *,
    eta: float = 0.0,
    noise: Float[Tensor, "*shape"] | None = None,
) -> Float[Tensor, "*shape"]:
    r"""Along the line that the two guessed parts make of a path.

    .. math:: x_s = \alpha_s x_0 + \sqrt{\sigma_s^2 - \varsigma^2}\, \epsilon + \varsigma n, \qquad
        \varsigma = \eta \tfrac{\sigma_s}{\sigma_t} \sqrt{\sigma_t^2 - \tfrac{\alpha_t^2}{\alpha_s^2} \sigma_s^2}

    Without noise it goes either way, and on a rectified flow it is the Euler step.

    Args:
        guess: x_0 and epsilon, ``[*B, ...]``.
        now: t, of each row, frame, or of all.
        after: s.
        eta: how much of the noise is fresh; 1 for as much as in an ancestral step.
        noise: n, standard normal; 0 if not given.

    Reference: Song et al., Denoising Diffusion Implicit Models (2021), eq. 12.
    """
    t, s = now.over(guess.clean), after.over(guess.clean)
    if eta == 0.0 or noise is None:
        kept, fresh = s.sigma, None
        if eta != 0.0:
            kept = _root(s.sigma**2 - fresh_std(t, s, eta) ** 2)
        return s.alpha * guess.clean + kept * guess.noise
    fresh = fresh_std(t, s, eta)
    return s.alpha * guess.clean + _root(s.sigma**2 - fresh**2) * guess.noise + fresh * noise


def fresh_std(now: AlphaSigma, after: AlphaSigma, eta: float) -> Tensor | float:
    """Standard deviation of the fresh noise of a step of :func:`ddim_step`.

    Args:
        now: the level before it.
        after: the level behind it.
        eta: how much of the noise is fresh.
    """
    ratio = now.alpha / after.alpha
    return eta * (after.sigma / now.sigma) * _root(now.sigma**2 - (ratio * after.sigma) ** 2)


def _root(x: Tensor | float) -> Tensor | float:
    """Square root of what rounding may have put below 0."""
    return x.clamp(min=0.0).sqrt() if isinstance(x, Tensor) else max(x, 0.0) ** 0.5


def euler_step(
    x: Float[Tensor, "*shape"], velocity: Float[Tensor, "*shape"], duration: Tensor | float
) -> Float[Tensor, "*shape"]:
    """A step of a flow: ``x + duration * velocity``.

    Args:
        x: ``[*B, ...]``.
        velocity: of a growing time.
        duration: how much time passes; negative from noise to data where velocities lead to noise.
    """
    return torch.add(x, velocity * duration)
