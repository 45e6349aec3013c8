"""From noise to data in a few guesses, with fresh noise after each but the last (Yin et al., 2024)."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from wmcomponents.functional.diffusion.path import AlphaSigma, diffused

Guess = Callable[[Tensor, float], Tensor]
"""The data, as a network guesses them from x at a time of the flow."""


class FewStepSampler:
    """Guess the data, noise the guess anew, and guess again, along a rectified flow.

    Args:
        times: of the guesses, falling from 1, which is noise, and above 0.

    Attributes:
        times: as they came.

    Raises:
        ValueError: unless they fall so.

    Reference: Yin et al., From Slow Bidirectional to Fast Autoregressive Video Diffusion Models (2024), algorithm 2;
    Song et al., Consistency Models (2023), algorithm 1.

    Example:
        >>> data = torch.full((1, 3), 0.25)
        >>> x = FewStepSampler((1.0, 0.5)).sample(lambda x, time: data, torch.randn(1, 3), torch.randn(1, 1, 3))
        >>> torch.equal(x, data)
        True
    """

    def __init__(self, times: tuple[float, ...]) -> None:
        falls = all(now > after for now, after in zip(times[:-1], times[1:], strict=True))
        if not times or times[0] != 1.0 or not falls or not times[-1] > 0.0:
            raise ValueError(f"the times of a few steps fall from 1, and are above 0; got {times}.")
        self.times = times

    @property
    def fresh(self) -> int:
        """How often the guess is noised anew."""
        return len(self.times) - 1

    def sample(
        self, guess: Guess, x: Float[Tensor, "n k *event"], noise: Float[Tensor, "fresh n k *event"] | None = None
    ) -> Float[Tensor, "n k *event"]:
        """The last guess.

        Args:
            guess: the network's.
            x: standard normal noise.
            noise: what guesses are noised with; 0 if not given.
        """
        clean = guess(x, self.times[0])
        for i, time in enumerate(self.times[1:]):
            added = torch.zeros_like(x) if noise is None else noise[i]
            clean = guess(diffused(clean, added, AlphaSigma.flow(time)), time)
        return clean


def few_step_times(steps: int, of: int | None = None) -> tuple[float, ...]:
    """Times that fall evenly from 1, or some of those.

    Args:
        steps: how many.
        of: among how many even ones; as many if not given.

    Raises:
        ValueError: unless there is a step, and no more than there are to choose from.

    >>> few_step_times(4), few_step_times(2, of=4)
    ((1.0, 0.75, 0.5, 0.25), (1.0, 0.5))
    """
    of = steps if of is None else of
    if not 1 <= steps <= of:
        raise ValueError(f"between 1 and {of} steps are taken, which is how many there are times for; got {steps}.")
    return tuple(1.0 - (i * of // steps) / of for i in range(steps))
