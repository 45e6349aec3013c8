"""What a denoising network says, and what that means: noise, data, v, or the velocity of a flow."""

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from wmcomponents.functional.diffusion.path import AlphaSigma


class Denoised(NamedTuple):
    """A network's guess of the two parts of a noisy x.

    Attributes:
        clean: x_0.
        noise: epsilon.
        variance_share: in [0, 1], how far the logarithm of a reverse step's variance is from the smallest to the
            largest that it can be; ``None`` where the network does not say.
    """

    clean: Tensor
    noise: Tensor
    variance_share: Tensor | None = None


class PredictionTarget(Protocol):
    """What a network is trained to say about a noisy x."""

    def of(self, clean: Tensor, noise: Tensor, level: AlphaSigma) -> Tensor:
        """What the network should say of ``alpha clean + sigma noise``."""
        ...

    def clean(self, output: Tensor, noisy: Tensor, level: AlphaSigma) -> Tensor:
        """The data, from what it says."""
        ...

    def noise(self, output: Tensor, noisy: Tensor, level: AlphaSigma) -> Tensor:
        """The noise, from what it says."""
        ...

    def error_ratio(self, snr: Tensor) -> Tensor:
        """How many times as large its squared error is as that of the data, at a signal to noise ratio."""
        ...


class NoiseTarget:
    r"""The noise :math:`\epsilon` (Ho et al., DDPM, 2020)."""

    def of(self, clean: Tensor, noise: Tensor, level: AlphaSigma) -> Tensor:
        """The noise itself."""
        return noise

    def clean(self, output: Tensor, noisy: Tensor, level: AlphaSigma) -> Tensor:
        """What is left without the noise; of no use where alpha is 0."""
        at = level.over(noisy)
        return (noisy - at.sigma * output) / at.alpha

    def noise(self, output: Tensor, noisy: Tensor, level: AlphaSigma) -> Tensor:
        """The output itself."""
        return output

    def error_ratio(self, snr: Tensor) -> Tensor:
        """The signal to noise ratio."""
        return snr


class CleanTarget:
    """The data x_0."""

    def of(self, clean: Tensor, noise: Tensor, level: AlphaSigma) -> Tensor:
        """The data itself."""
        return clean

    def clean(self, output: Tensor, noisy: Tensor, level: AlphaSigma) -> Tensor:
        """The output itself."""
        return output

    def noise(self, output: Tensor, noisy: Tensor, level: AlphaSigma) -> Tensor:
        """What is left without the data; of no use where sigma is 0."""
        return noise_besides(output, noisy, level)

    def error_ratio(self, snr: Tensor) -> Tensor:
        """One."""
        return torch.ones_like(snr)


class VTarget:
    r"""The speed on the circle of a variance-preserving path, :math:`v = \alpha \epsilon - \sigma x_0`.

    Reference: Salimans and Ho, Progressive Distillation for Fast Sampling of Diffusion Models (2022), appendix D.
    """

    def of(self, clean: Tensor, noise: Tensor, level: AlphaSigma) -> Tensor:
        """The speed."""
        at = level.over(clean)
        return at.alpha * noise - at.sigma * clean

    def clean(self, output: Tensor, noisy: Tensor, level: AlphaSigma) -> Tensor:
        """The data; there is no level at which it cannot be told."""
        at = level.over(noisy)
        return at.alpha * noisy - at.sigma * output

    def noise(self, output: Tensor, noisy: Tensor, level: AlphaSigma) -> Tensor:
        """The noise; likewise."""
        at = level.over(noisy)
        return at.sigma * noisy + at.alpha * output

    def error_ratio(self, snr: Tensor) -> Tensor:
        r"""One more than the ratio: the error of v is that of the data by :math:`\sigma`."""
        return snr + 1.0


class VelocityTarget:
    r"""The velocity of a rectified flow from data to noise, :math:`u = \epsilon - x_0` (Open-Sora 2.0).

    On straight paths only: ``alpha + sigma`` is 1.

    Reference: Liu et al., Flow Straight and Fast (2022); Lipman et al., Flow Matching (2022).
    """

    def of(self, clean: Tensor, noise: Tensor, level: AlphaSigma) -> Tensor:
        """The velocity."""
        return noise - clean

    def clean(self, output: Tensor, noisy: Tensor, level: AlphaSigma) -> Tensor:
        """Where the straight line through x leads at time 0."""
        return noisy - level.over(noisy).sigma * output

    def noise(self, output: Tensor, noisy: Tensor, level: AlphaSigma) -> Tensor:
        """Where it leads at time 1."""
        return noisy + level.over(noisy).alpha * output

    def error_ratio(self, snr: Tensor) -> Tensor:
        r""":math:`1 / \sigma^2 = (1 + \sqrt{snr})^2`."""
        return (1.0 + snr.sqrt()) ** 2


class ReversedVelocityTarget:
    r"""The same velocity from noise to data, :math:`x_0 - \epsilon` (Open-Sora 1.2)."""

    def of(self, clean: Tensor, noise: Tensor, level: AlphaSigma) -> Tensor:
        """The velocity."""
        return clean - noise

    def clean(self, output: Tensor, noisy: Tensor, level: AlphaSigma) -> Tensor:
        """Where the straight line through x leads at time 0."""
        return noisy + level.over(noisy).sigma * output

    def noise(self, output: Tensor, noisy: Tensor, level: AlphaSigma) -> Tensor:
        """Where it leads at time 1."""
        return noisy - level.over(noisy).alpha * output

    def error_ratio(self, snr: Tensor) -> Tensor:
        """As of the velocity from data to noise."""
        return (1.0 + snr.sqrt()) ** 2


TargetName = Literal["noise", "clean", "v", "velocity", "reversed_velocity"]
"""Names of targets in configs."""

LevelTargetName = Literal["noise", "clean", "v"]
"""Of those, the targets of a variance-preserving process of levels."""

TARGETS: dict[TargetName, Callable[[], PredictionTarget]] = {
    "noise": NoiseTarget,
    "clean": CleanTarget,
    "v": VTarget,
    "velocity": VelocityTarget,
    "reversed_velocity": ReversedVelocityTarget,
}


def target_named(name: str) -> PredictionTarget:
    """The target of a name.

    Raises:
        ValueError: if there is none of that name.
    """
    if name not in TARGETS:
        raise ValueError(f"a network predicts one of {', '.join(map(repr, TARGETS))}; got {name!r}.")
    return TARGETS[name]()


def noise_besides(clean: Tensor, noisy: Tensor, level: AlphaSigma) -> Tensor:
    """What of a noisy x is not data, as noise of standard deviation 1.

    Args:
        clean: x_0.
        noisy: x.
        level: of x; sigma is not 0.
    """
    at = level.over(noisy)
    return (noisy - at.alpha * clean) / at.sigma


def denoised(
    target: PredictionTarget,
    output: Tensor,
    noisy: Tensor,
    level: AlphaSigma,
    *,
    clip: float | None = None,
    variance_share: Tensor | None = None,
) -> Denoised:
    """The two parts of a noisy x, from what a network says.

    Args:
        target: what it says.
        output: its words.
        noisy: x.
        level: of x.
        clip: largest magnitude of the data, where it is bounded; the noise is then what is left beside it.
        variance_share: what it says of the variance, if it does.
    """
    clean = target.clean(output, noisy, level)
    if clip is None:
        return Denoised(clean, target.noise(output, noisy, level), variance_share)
    clean = clean.clamp(-clip, clip)
    return Denoised(clean, noise_besides(clean, noisy, level), variance_share)
