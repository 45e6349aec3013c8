"""Rectified flow: when to look, in training and in sampling."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from wmcomponents.functional.diffusion.steps import euler_step

Velocity = Callable[[Tensor, float, int], Tensor]
"""u(x, time, step): from data to noise."""


def shifted_time(time: Tensor | float, shift: Tensor | float) -> Tensor | float:
    r"""Time moved towards noise, as larger films need it: :math:`r t / (1 + (r - 1) t)`; 0 and 1 stay.

    Args:
        time: in [0, 1], 1 for noise.
        shift: r, how many times the odds of noise grow.

    Reference: Esser et al., Scaling Rectified Flow Transformers (2024), section 5.3.2.
    """
    return shift * time / (1.0 + (shift - 1.0) * time)


def logit_normal_time(normal: Float[Tensor, "*batch"], loc: float = 0.0, scale: float = 1.0) -> Float[Tensor, "*batch"]:
    """Times to train at, most of them half way: the sigmoid of a normal number.

    Args:
        normal: standard normal noise.
        loc: its mean.
        scale: its standard deviation.

    Reference: Esser et al., Scaling Rectified Flow Transformers (2024), section 3.1.
    """
    return (normal * scale + loc).sigmoid()


def film_shift(pixels: float, frames: float = 1.0, base: float = 512.0**2) -> float:
    r"""Shift of a film by its size, :math:`\sqrt{pixels / base}\, \sqrt{frames}` (Open-Sora 1.2).

    Args:
        pixels: height times width.
        frames: of the latent film.
        base: pixels at which a picture is not shifted.
    """
    return math.sqrt(pixels / base) * math.sqrt(frames)


def token_shift(
    tokens: float, frames: float = 1.0, low: tuple[float, float] = (256, 1.0), high: tuple[float, float] = (4096, 3.0)
) -> float:
    r"""Shift of a film by its tokens: linear in those of a frame, times :math:`\sqrt{frames}` (Open-Sora 2.0).

    Args:
        tokens: of a frame.
        frames: of the latent film.
        low: a number of tokens and its shift.
        high: another.
    """
    slope = (high[1] - low[1]) / (high[0] - low[0])
    return (slope * (tokens - low[0]) + low[1]) * math.sqrt(frames)


@dataclass(frozen=True)
class EulerFlowSampler:
    """From noise to data along a flow, with Euler's steps.

    Attributes:
        steps: how many.
        shift: of the times, see :func:`shifted_time`; 1 for even steps.

    Raises:
        ValueError: unless there is a step, and ``shift`` is positive.

    Example:
        >>> import torch
        >>> noise, data = torch.randn(3), torch.full((3,), 0.25)
        >>> x = EulerFlowSampler(steps=2).sample(lambda x, time, step: noise - data, noise)
        >>> torch.allclose(x, data)
        True
    """

    steps: int = 30
    shift: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.shift > 0.0:
            raise ValueError(
                f"a flow is followed in at least one step, with shift > 0; got steps={self.steps}, shift={self.shift}."
            )
        # In float32, as the official codes have them.
        times = torch.linspace(1.0, 0.0, self.steps + 1, device="cpu")
        if self.shift != 1.0:
            times = shifted_time(times, self.shift)
        assert isinstance(times, Tensor)
        object.__setattr__(self, "_times", tuple(times.tolist()))

    def times(self) -> list[float]:
        """From 1 to 0, ``steps + 1`` of them."""
        return list(self._times)  # pyright: ignore[reportAttributeAccessIssue]

    def trajectory(self, velocity: Velocity, x: Tensor) -> list[Tensor]:
        """Every x from the noise to the sample, ``steps + 1`` of them.

        Args:
            velocity: u, from data to noise; turn the sign of one that leads from noise to data.
            x: standard normal noise.
        """
        path, times = [x], self.times()
        for i, (now, after) in enumerate(zip(times[:-1], times[1:], strict=True)):
            x = euler_step(x, velocity(x, now, i), after - now)
            path.append(x)
        return path

    def sample(self, velocity: Velocity, x: Tensor) -> Tensor:
        """The last x of :meth:`trajectory`."""
        return self.trajectory(velocity, x)[-1]
