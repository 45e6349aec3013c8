"""What is done to the prior of a root before its search."""

from typing import Protocol

import torch
from torch import Tensor

from wmcomponents.world_model import Noise


class RootPrior(Protocol):
    """A step between the model's prior of the roots and the one that is searched with."""

    def __call__(self, logits: Tensor, mask: Tensor | None, noise: Noise) -> Tensor:
        """New logits ``[B, K]``.

        Args:
            logits: ``[B, K]``; minus infinity where an edge cannot be taken.
            mask: which edges may be taken, bool ``[B, K]``; ``None``: all.
            noise: of this search.
        """
        ...

    def draw(self, shape: tuple[int, int], generator: torch.Generator) -> Noise:
        """The noise it reads, each ``[B, K]``."""
        ...


class LegalActions:
    """Takes out what the mask forbids."""

    def __call__(self, logits: Tensor, mask: Tensor | None, noise: Noise) -> Tensor:
        """Logits ``[B, K]``, minus infinity where the mask is false."""
        return logits if mask is None else logits.masked_fill(~mask, -torch.inf)

    def draw(self, shape: tuple[int, int], generator: torch.Generator) -> Noise:
        """None."""
        return {}


class DirichletNoise:
    """Mixes noise into the prior, so that every action is tried now and then; none without the noise ``dirichlet``.

    Before :class:`LegalActions` it spreads over all actions, as in mctx, behind it over those that may be taken, as in
    MuZero's pseudocode.

    Args:
        alpha: of the Dirichlet distribution.
        fraction: share of the noise.

    Reference: Schrittwieser et al., MuZero (2020), appendix C.

    Raises:
        ValueError: for an alpha that is not positive, or a fraction outside [0, 1].
    """

    def __init__(self, alpha: float = 0.3, fraction: float = 0.25) -> None:
        if not alpha > 0 or not 0 <= fraction <= 1:
            raise ValueError(f"alpha is positive and fraction in [0, 1]; got {alpha} and {fraction}.")
        self.alpha, self.fraction = alpha, fraction

    def __call__(self, logits: Tensor, mask: Tensor | None, noise: Noise) -> Tensor:
        """Logits ``[B, K]`` of the mixture; reads the noise ``dirichlet``, ``[B, K]``, which sums to 1."""
        drawn = noise.get("dirichlet")
        if drawn is None or not self.fraction:
            return logits
        legal = logits > -torch.inf
        drawn = drawn.to(logits) * legal
        tiny = torch.finfo(logits.dtype).tiny
        drawn = drawn / drawn.sum(1, keepdim=True).clamp(min=tiny)
        mixed = (1 - self.fraction) * logits.softmax(1) + self.fraction * drawn
        return mixed.clamp(min=tiny).log().masked_fill(~legal, -torch.inf)

    def draw(self, shape: tuple[int, int], generator: torch.Generator) -> Noise:
        """``dirichlet``, ``[B, K]``."""
        alpha = torch.full(shape, self.alpha, device=generator.device)
        # torch.distributions draws from the global generator alone.
        weight = torch._standard_gamma(alpha, generator=generator)  # pyright: ignore[reportPrivateImportUsage]
        weight = weight.clamp(min=torch.finfo(weight.dtype).tiny)
        return {"dirichlet": weight / weight.sum(1, keepdim=True)}
