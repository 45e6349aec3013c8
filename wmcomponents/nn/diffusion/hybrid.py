"""The loss of networks that say the variance of a reverse step beside what they predict."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from wmcomponents.functional.diffusion.learned_variance import variance_share, variational_bound
from wmcomponents.functional.diffusion.path import AlphaSigma
from wmcomponents.functional.diffusion.targets import Denoised, PredictionTarget, denoised
from wmcomponents.nn.diffusion.process import DiffusionProcess


class HybridLoss(NamedTuple):
    """Terms of each row, means over its numbers; their sum is the loss of DiT and NWM.

    Attributes:
        squared_error: of what the network predicts, ``[N]``.
        bits: of the bound on the likelihood, which trains the variance alone, ``[N]``.
    """

    squared_error: Tensor
    bits: Tensor


def hybrid_loss(
    process: DiffusionProcess,
    target: PredictionTarget,
    output: Float[Tensor, "n c2 *space"],
    clean: Float[Tensor, "n c *space"],
    noise: Float[Tensor, "n c *space"],
    level: Int[Tensor, " n"],
) -> HybridLoss:
    """Squared error of what a network predicts, and the bound with the variance that it says.

    Args:
        process: that made the noise.
        target: what is predicted.
        output: along the channels what is predicted, then numbers about its variance.
        clean: x_0.
        noise: of the noisy x that the network was given.
        level: of x.

    Raises:
        ValueError: if the output has not twice the data's channels.

    Reference: Nichol and Dhariwal, Improved Denoising Diffusion Probabilistic Models (2021), eq. 16, with a factor of 1
    on the bound as in DiT.
    """
    at = process.at(level)
    said, spread = _halves(output, clean.shape[1])
    noisy = process.diffuse(clean, noise, level)
    error = (said - target.of(clean, noise, at)).square()
    guess = denoised(target, said.detach(), noisy, at, variance_share=variance_share(spread))
    bits = variational_bound(clean, noisy, guess, process.steps_from(level), level == 0)
    return HybridLoss(error.flatten(1).mean(1), bits.flatten(1).mean(1))


def denoised_with_variance(
    target: PredictionTarget,
    output: Float[Tensor, "n c2 *space"],
    noisy: Float[Tensor, "n c *space"],
    level: AlphaSigma,
    *,
    clip: float | None = None,
) -> Denoised:
    """What an output of twice the data's channels means: data, noise and variance.

    Args:
        target: what is predicted.
        output: of the network.
        noisy: x.
        level: of x.
        clip: largest magnitude of the data, where it is bounded.

    Raises:
        ValueError: if the output has not twice the data's channels.
    """
    said, spread = _halves(output, noisy.shape[1])
    return denoised(target, said, noisy, level, clip=clip, variance_share=variance_share(spread))


def _halves(output: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    if output.shape[1] != 2 * channels:
        raise ValueError(
            f"a network that says the variance has twice the data's {channels} channels; got {output.shape[1]}."
        )
    said, spread = torch.chunk(output, 2, 1)
    return said, spread
