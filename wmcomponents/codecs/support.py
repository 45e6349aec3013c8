"""Rewards and values as categories."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wmcomponents.codecs.reward_unit import RewardUnit
from wmcomponents.functional import at_least_float32, two_hot
from wmcomponents.functional.value_transform import decode_from_support, inverse_value_transform, value_transform


class Support(nn.Module):
    """Bins on the scale of MuZero's h: numbers in env units to two-hot weights, logits to numbers, and the error.

    Args:
        bins: increasing bin centres on the transformed scale.
        dead_zone: decoded numbers of a smaller size become 0 (EfficientZero: 1e-3).
        transform: from env units to the bins' scale; its inverse is that of MuZero's h.
        unit: of numbers on that scale; 1 if not given.

    Raises:
        ValueError: if there are fewer than two bins, or they do not increase.

    Example:
        >>> support = Support.integers(10)
        >>> support.size, round(float(support.mean(support.encode(torch.tensor(7.0)).log())), 3)
        (21, 7.0)
    """

    bins: Tensor

    def __init__(
        self,
        bins: Float[Tensor, " bins"],
        dead_zone: float = 0.0,
        transform: Callable[[Tensor], Tensor] = value_transform,
        unit: RewardUnit | None = None,
    ) -> None:
        super().__init__()
        if bins.ndim != 1 or len(bins) < 2 or (not bins.is_meta and not bool((bins.diff() > 0).all())):
            raise ValueError(f"a support has at least two increasing bins; got {bins.tolist()}.")
        self.register_buffer("bins", bins, persistent=False)
        self.dead_zone, self.transform, self.unit = dead_zone, transform, unit

    @classmethod
    def integers(cls, limit: int = 300, dead_zone: float = 0.0, unit: RewardUnit | None = None) -> "Support":
        """Every integer of -limit..limit: 300 for Atari, 10 for board games (MuZero, appendix F)."""
        return cls(torch.arange(-limit, limit + 1, dtype=torch.float32), dead_zone, unit=unit)

    @classmethod
    def uniform(cls, low: float, high: float, count: int = 51, dead_zone: float = 0.0) -> "Support":
        """``count`` bins evenly spaced on the transformed scale between two numbers in env units (EfficientZero-V2)."""
        low, high = (float(value_transform(torch.tensor(x, dtype=torch.float64))) for x in (low, high))
        return cls(torch.linspace(low, high, count), dead_zone)

    @property
    def size(self) -> int:
        """Number of bins."""
        return self.bins.shape[0]

    @property
    def largest(self) -> float:
        """The largest number, in env units."""
        held = float(inverse_value_transform(self.bins[-1]))
        return held if self.unit is None else held * float(self.unit.unit)

    def prepare(self, data: Float[Tensor, "*batch"]) -> None:
        """Find the unit, once, where there is one.

        Args:
            data: rewards in env units.
        """
        if self.unit is not None:
            self.unit.prepare(data)

    def encode(self, x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch bins"]:
        """Weights of the two bins around each number; they sum to 1. Beyond the last bin, all is on that bin."""
        return two_hot(self.transform(x if self.unit is None else self.unit(x)), self.bins)

    def mean(self, logits: Float[Tensor, "*batch bins"]) -> Float[Tensor, "*batch"]:
        """Numbers in env units."""
        said = decode_from_support(logits, self.bins, dead_zone=self.dead_zone)
        return said if self.unit is None else self.unit.inverse(said)

    def loss(self, logits: Float[Tensor, "*batch bins"], target: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Cross entropy with the encoded target, which gets no gradient; NaN where the target is not finite."""
        target = target.detach()
        # Two bins are found for any target; the last term is 0, or NaN.
        return -(at_least_float32(logits).log_softmax(-1) * self.encode(target)).sum(-1) + 0.0 * target

    def extra_repr(self) -> str:
        """Number of bins and their ends."""
        return f"{self.size} bins, {self.bins[0]:.4g}..{self.bins[-1]:.4g}"
