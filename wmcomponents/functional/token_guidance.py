"""Guidance of draws token by token: away from what would be drawn without a text."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


def guided_logits(
    conditional: Float[Tensor, "*batch k"],
    other: Float[Tensor, "*batch k"],
    scale: Float[Tensor, "*batch one"] | float,
) -> Float[Tensor, "*batch k"]:
    r"""Logits led away from others.

    .. math:: l = (1 + t)\, l_{text} - t\, l_{other}

    Args:
        conditional: with the text that is meant.
        other: without any, or with one that is not meant (a *negative prompt*).
        scale: t; 0 leaves the first as they are.

    Reference: Ho and Salimans, Classifier-Free Diffusion Guidance (2022); Hu et al., GAIA-1 (2023), section 5.1.

    Example:
        >>> guided_logits(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 0.0]), 2.0)
        tensor([3., 0.])
    """
    return conditional + scale * (conditional - other)


@dataclass(frozen=True)
class GuidanceSchedule:
    r"""How strongly each token of each frame is guided: less from token to token, and from frame to frame.

    .. math:: t_{f,i} = t \left(1 - \frac{i}{n}\right) \cdot
        \tfrac12 \left(1 + \cos \pi\, clip\!\left(\frac{f - p}{d}, 0, 1\right)\right)

    Attributes:
        scale: t, of the first token of the first frame.
        plateau: p, frames before the decay begins.
        decay: d, frames from then on until nothing is guided any more; 0 for no decay.

    Raises:
        ValueError: for a negative number.

    Reference: Hu et al., GAIA-1 (2023), section 5.1: linear over tokens, a cosine over frames with or without a
    plateau; no numbers are published.

    Example:
        >>> GuidanceSchedule(2.0, decay=2).at(torch.tensor([[0], [1]]), 2)
        tensor([[2.0000, 1.0000],
                [1.0000, 0.5000]])
    """

    scale: float
    plateau: int = 0
    decay: int = 0

    def __post_init__(self) -> None:
        if not self.scale >= 0 or self.plateau < 0 or self.decay < 0:
            raise ValueError(
                f"scale, plateau and decay are at least 0; got {self.scale}, {self.plateau} and {self.decay}."
            )

    def at(self, frame: Int[Tensor, "n 1"], tokens: int) -> Float[Tensor, "n k"]:
        """The scale of each token of a frame.

        Args:
            frame: f, how many frames were guided before it, int64 ``[N, 1]``.
            tokens: n, of a frame.
        """
        over_tokens = 1.0 - torch.arange(tokens, device=frame.device) / tokens
        if not self.decay:
            return self.scale * over_tokens.expand(frame.shape[0], tokens)
        passed = ((frame - self.plateau) / self.decay).clamp(0.0, 1.0)
        return self.scale * over_tokens * (0.5 + 0.5 * (math.pi * passed).cos())
