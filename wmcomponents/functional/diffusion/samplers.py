"""From noise to data through some levels of variance-preserving diffusion; all noise comes from outside."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from wmcomponents.functional.diffusion.betas import alphas_cumprod, betas_between
from wmcomponents.functional.diffusion.path import AlphaSigma, reverse_steps
from wmcomponents.functional.diffusion.steps import ddim_step
from wmcomponents.functional.diffusion.targets import Denoised


class SamplingStep(NamedTuple):
    """A step of a sampler.

    Attributes:
        index: its number, from 0 for noise.
        level: number of the level in the process that was trained on, which the network is told.
        now: alpha and sigma of that level.
        after: of the next one; 1 and 0 behind the last.
    """

    index: int
    level: int
    now: AlphaSigma
    after: AlphaSigma


Denoise = Callable[[Tensor, SamplingStep], Denoised]
"""What a network makes of x in a step, under whatever guidance."""


class DDIMSampler:
    """Along the lines that the network guesses, with as much fresh noise as wanted.

    Args:
        betas: of the process that was trained on, ``[K]``.
        levels: the ones visited, rising, such as :func:`spaced_levels` and :func:`strided_levels` give; -1 is clean,
            and is where sampling ends whether it is named or not.
        eta: how much of the noise is fresh; 0 for none, 1 for as much as in an ancestral step.

    Attributes:
        steps: how many there are, from noise to data.

    Raises:
        ValueError: unless the levels rise, and there are such.

    Reference: Song et al., Denoising Diffusion Implicit Models (2021).

    Example:
        >>> import torch
        >>> from wmcomponents.functional import Denoised, linear_betas, strided_levels
        >>> sampler = DDIMSampler(linear_betas(1000), strided_levels(1000, 5))
        >>> [step.level for step in sampler.steps]
        [800, 600, 400, 200, 0]
        >>> data = torch.full((3,), 0.25)
        >>> x = sampler.sample(lambda x, step: Denoised(data, (x - step.now.alpha * data) / step.now.sigma), data)
        >>> torch.allclose(x, data)
        True
    """

    def __init__(self, betas: Float[Tensor, " levels"], levels: Sequence[int], eta: float = 0.0) -> None:
        if eta < 0.0:
            raise ValueError(f"eta is at least 0; got {eta}.")
        self.steps, self.eta = _steps(betas, levels), eta

    @property
    def uses_noise(self) -> bool:
        """Whether a step needs fresh noise."""
        return self.eta > 0.0

    def trajectory(self, denoise: Denoise, x: Tensor, noise: Tensor | None = None) -> list[Tensor]:
        """Every x from the noise to the sample, one more than steps.

        Args:
            denoise: the network's guess.
            x: standard normal noise, ``[*shape]``.
            noise: fresh, for each step, ``[steps, *shape]``; 0 if not given.
        """
        path = [x]
        for step in self.steps:
            fresh = None if noise is None else noise[step.index]
            x = ddim_step(denoise(x, step), step.now, step.after, eta=self.eta, noise=fresh)
            path.append(x)
        return path

    def sample(self, denoise: Denoise, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """The last x of :meth:`trajectory`."""
        return self.trajectory(denoise, x, noise)[-1]


class AncestralSampler:
    """Against the chain that made the noise, step by step, with fresh noise in each but the last.

    Args:
        betas: of the process that was trained on, ``[K]``.
        levels: the ones visited, rising.
        variance_share: of a step's noise where the network does not say: 0 for the smallest variance that it can have,
            that of the posterior, 1 for the largest, beta.

    Attributes:
        steps: how many there are, from noise to data.

    Raises:
        ValueError: unless the levels rise, there are such, and the share is in [0, 1].

    Reference: Ho et al., Denoising Diffusion Probabilistic Models (2020), algorithm 2; Nichol and Dhariwal (2021).
    """

    uses_noise = True

    def __init__(self, betas: Float[Tensor, " levels"], levels: Sequence[int], variance_share: float = 0.0) -> None:
        if not 0.0 <= variance_share <= 1.0:
            raise ValueError(f"variance_share is in [0, 1]; got {variance_share}.")
        self.steps, self.variance_share = _steps(betas, levels), variance_share
        visited = torch.tensor([step.level for step in reversed(self.steps)], device="cpu")
        table = reverse_steps(betas_between(alphas_cumprod(betas.double())[visited]))
        self._rows = list(zip(*(column.flip(0).tolist() for column in table), strict=True))

    def trajectory(self, denoise: Denoise, x: Tensor, noise: Tensor | None = None) -> list[Tensor]:
        """Every x from the noise to the sample, one more than steps.

        Args:
            denoise: the network's guess.
            x: standard normal noise, ``[*shape]``.
            noise: fresh, for each step, ``[steps, *shape]``; 0 if not given. The last is not used.
        """
        path = [x]
        for step, (of_noisy, of_clean, small, large) in zip(self.steps, self._rows, strict=True):
            guess = denoise(x, step)
            x = of_noisy * x + of_clean * guess.clean
            if noise is not None and step.after.sigma:
                x = x + self._std(guess.variance_share, small, large) * noise[step.index]
            path.append(x)
        return path

    def sample(self, denoise: Denoise, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """The last x of :meth:`trajectory`."""
        return self.trajectory(denoise, x, noise)[-1]

    def _std(self, share: Tensor | None, small: float, large: float) -> Tensor | float:
        if share is None:
            return math.exp(0.5 * (self.variance_share * large + (1.0 - self.variance_share) * small))
        return (0.5 * (share * large + (1.0 - share) * small)).exp()


def _steps(betas: Tensor, levels: Sequence[int]) -> tuple[SamplingStep, ...]:
    """The steps through levels, from the noisiest to clean data."""
    visited = [level for level in levels if level != -1]
    rises = all(low < high for low, high in zip(visited[:-1], visited[1:], strict=True))
    if not visited or not rises or visited[0] < 0 or visited[-1] >= len(betas):
        raise ValueError(
            f"the levels that are visited are rising numbers between 0 and {len(betas) - 1}, such as "
            f"spaced_levels({len(betas)}, 50) gives; got {list(levels)}."
        )
    shares = alphas_cumprod(betas.double()).tolist()
    path = [AlphaSigma(1.0, 0.0), *(AlphaSigma.preserving(shares[level]) for level in visited)]
    count = len(visited)
    return tuple(SamplingStep(i, visited[-1 - i], path[count - i], path[count - i - 1]) for i in range(count))
