"""EDM's samplers as DIAMOND uses them, over any denoiser; all noise comes from outside."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from wmcomponents.functional.edm import karras_sigmas

Denoise = Callable[[Tensor, float, int], Tensor]
"""D(x, sigma, step): the denoised x; the number of the step tells Heun's second call from the next step's first."""


@dataclass(frozen=True)
class EDMSampler:
    r"""From noise to data in a few steps along :func:`~wmcomponents.functional.karras_sigmas`.

    A step from :math:`\sigma` to :math:`\sigma'` (Euler; Heun averages the slopes at both ends, unless
    :math:`\sigma' = 0`):

    .. math::
        \hat\sigma &= (1 + \gamma) \sigma, \qquad
        \hat x = x + S_{noise} \sqrt{\hat\sigma^2 - \sigma^2}\, \epsilon \\
        x' &= \hat x + (\sigma' - \hat\sigma) (\hat x - D(\hat x, \sigma)) / \hat\sigma

    with :math:`\gamma = \min(S_{churn} / n, \sqrt 2 - 1)` where :math:`S_{tmin} \le \sigma \le S_{tmax}`, else 0.

    Two things are DIAMOND's, and not EDM's: the denoiser is told :math:`\sigma` under churn, not :math:`\hat\sigma`;
    and x_0 is standard normal, not multiplied by ``sigma_max``.

    Attributes:
        steps: n.
        sigma_min: the last noise level before 0.
        sigma_max: the first.
        rho: of the schedule.
        order: 1 (Euler) or 2 (Heun).
        s_churn: how much noise is put back; 0 for none.
        s_tmin: lowest level at which it is.
        s_tmax: highest.
        s_noise: factor on its spread.
        s_cond: standard deviation of the noise that a model adds to what it is conditioned on before every step, on top
            of that of the steps before; 0 for none. The model does that in its ``Denoise``.

    Raises:
        ValueError: if a number is out of range.

    Reference: Karras et al. (2022), algorithms 1 and 2; Alonso et al., DIAMOND (2024), appendix.

    Example:
        >>> import torch
        >>> x = EDMSampler(steps=3).sample(lambda x, sigma, step: torch.full_like(x, 0.25), torch.randn(2, 3))
        >>> torch.allclose(x, torch.full((2, 3), 0.25))
        True
    """

    steps: int = 3
    sigma_min: float = 0.002
    sigma_max: float = 5.0
    rho: float = 7.0
    order: int = 1
    s_churn: float = 0.0
    s_tmin: float = 0.0
    s_tmax: float = 1e6
    s_noise: float = 1.0
    s_cond: float = 0.0

    def __post_init__(self) -> None:
        # In float32, as the official code has them: so s_tmin = sigma_min and s_tmax = sigma_max mean the same levels.
        levels = karras_sigmas(self.steps, self.sigma_min, self.sigma_max, self.rho, device="cpu").tolist()
        object.__setattr__(self, "_sigmas", tuple(levels))
        if self.order not in (1, 2):
            raise ValueError(f"order is 1 (Euler) or 2 (Heun); got {self.order}.")
        if min(self.s_churn, self.s_noise, self.s_cond) < 0:
            raise ValueError(
                f"s_churn, s_noise and s_cond are at least 0; got {self.s_churn}, {self.s_noise}, {self.s_cond}."
            )

    def sigmas(self) -> list[float]:
        """The noise levels, ``steps + 1`` of them; the last is 0. They are float32 numbers."""
        return list(self._sigmas)  # pyright: ignore[reportAttributeAccessIssue]

    def gammas(self) -> list[float]:
        """How much each step raises its noise level first."""
        most = min(self.s_churn / self.steps, math.sqrt(2.0) - 1.0)
        return [most if self.s_tmin <= sigma <= self.s_tmax else 0.0 for sigma in self.sigmas()[:-1]]

    @property
    def churns(self) -> bool:
        """Whether any step needs noise of its own."""
        return any(gamma > 0 for gamma in self.gammas())

    def trajectory(self, denoise: Denoise, x: Tensor, churn: Tensor | None = None) -> list[Tensor]:
        """Every x from the noise to the sample, ``steps + 1`` of them.

        Args:
            denoise: D.
            x: standard normal noise, ``[*shape]``.
            churn: standard normal noise for each step, ``[steps, *shape]``; ``None`` puts back none of it, as if it
                were 0.
        """
        path, sigmas = [x], self.sigmas()
        for i, (sigma, following, gamma) in enumerate(zip(sigmas[:-1], sigmas[1:], self.gammas(), strict=True)):
            raised = sigma * (1.0 + gamma)
            if gamma > 0 and churn is not None:
                x = x + churn[i] * (self.s_noise * math.sqrt(raised**2 - sigma**2))
            slope = (x - denoise(x, sigma, i)) / raised
            ahead = x + slope * (following - raised)
            if self.order == 2 and following > 0:
                slope = (slope + (ahead - denoise(ahead, following, i)) / following) / 2.0
                ahead = x + slope * (following - raised)
            x = ahead
            path.append(x)
        return path

    def sample(self, denoise: Denoise, x: Tensor, churn: Tensor | None = None) -> Tensor:
        """The last x ``[*shape]`` of :meth:`trajectory`."""
        return self.trajectory(denoise, x, churn)[-1]
