"""Losses of two views of the same samples: near each other, and spread."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from wmcomponents.functional.sigreg import BCS, EppsPulley, random_directions, sigreg
from wmcomponents.functional.variance_covariance import mean_vicreg_terms, vicreg_terms


class ViewLoss(nn.Module, ABC):
    """Interface of losses of two views; no gradient is stopped on either side, unless by whoever calls.

    Statistics are those of the rows at hand, also where several processes share a batch.
    """

    @abstractmethod
    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """The weighted terms, by name, whose sum is minimised.

        Args:
            x: one view of N samples, ``[N, D]``.
            y: the other, ``[N, D]``.

        Raises:
            ValueError: for fewer than two samples.
        """


class VICReg(ViewLoss):
    """VICReg as its authors have it.

    Args:
        invariance: weight of the distance.
        variance: weight of the deviations' hinge.
        covariance: weight of the covariances.

    Reference: Bardes et al., VICReg (2022), eq. 6.

    Example:
        >>> terms = VICReg()(torch.zeros(4, 2), torch.zeros(4, 2))
        >>> {name: round(float(value), 2) for name, value in terms.items()}
        {'invariance': 0.0, 'variance': 24.75, 'covariance': 0.0}
    """

    def __init__(self, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0) -> None:
        super().__init__()
        self.weights = (invariance, variance, covariance)

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """See :meth:`ViewLoss.forward`: invariance, variance, covariance."""
        terms = vicreg_terms(x, y)._asdict().items()
        return {name: weight * term for weight, (name, term) in zip(self.weights, terms, strict=True)}


class MeanVICReg(ViewLoss):
    """VICReg as eb_jepa has it: variances of the views summed, covariances averaged over pairs of channels.

    Args:
        variance: weight of the deviations' hinge.
        covariance: weight of the covariances; 80 to 100 for images.

    Reference: Terver et al., A Lightweight Library for Energy-Based Joint-Embedding Predictive Architectures (2026).
    """

    def __init__(self, variance: float = 1.0, covariance: float = 1.0) -> None:
        super().__init__()
        self.weights = (1.0, variance, covariance)

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """See :meth:`ViewLoss.forward`: invariance, variance, covariance."""
        terms = mean_vicreg_terms(x, y)._asdict().items()
        return {name: weight * term for weight, (name, term) in zip(self.weights, terms, strict=True)}


class SlicedViewLoss(ViewLoss):
    """Base of losses that hold both views to a normal distribution along directions, drawn anew at every call.

    The directions of call k come of a generator seeded with k, so that all processes draw the same; how many calls
    there were is saved with the weights.

    Args:
        directions: how many are drawn.
        statistic: of one direction.
    """

    calls: Tensor

    def __init__(self, directions: int, statistic: EppsPulley) -> None:
        super().__init__()
        self.directions, self.statistic = directions, statistic
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self._generator = torch.Generator()

    def distribution(self, x: Tensor, y: Tensor) -> Tensor:
        """:func:`wmcomponents.functional.sigreg` of the views ``[N, D]``, averaged; not times N."""
        drawn = random_directions(x.shape[-1], self.directions, self._generator.manual_seed(int(self.calls)))
        self.calls += 1
        along = drawn.to(x.device)
        return (sigreg(x, along, self.statistic) + sigreg(y, along, self.statistic)) / 2


class BatchedCharacteristicSlicing(SlicedViewLoss):
    """BCS: the distance of the views, and how far each is from a normal distribution.

    Args:
        scale: weight of the distribution.
        directions: how many are drawn at every call.
        statistic: of one direction.

    Reference: Terver et al., A Lightweight Library for Energy-Based Joint-Embedding Predictive Architectures (2026).
    """

    def __init__(self, scale: float = 10.0, directions: int = 256, statistic: EppsPulley = BCS) -> None:
        super().__init__(directions, statistic)
        self.scale = scale

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """See :meth:`ViewLoss.forward`: invariance, distribution."""
        return {"invariance": (x - y).square().mean(), "distribution": self.scale * self.distribution(x, y)}


class LeJEPA(SlicedViewLoss):
    """The distance of the views to their mean, and how far each is from a normal distribution, times the batch's size.

    Args:
        scale: share of the distribution, in [0, 1]; the distance has the rest.
        directions: how many are drawn at every call.

    Raises:
        ValueError: if the share lies outside [0, 1].

    Reference: Balestriero and LeCun, LeJEPA (2025), section 5.
    """

    def __init__(self, scale: float = 0.02, directions: int = 1024) -> None:
        if not 0.0 <= scale <= 1.0:
            raise ValueError(f"scale is the share of the distribution's term, in [0, 1]; got {scale}.")
        super().__init__(directions, EppsPulley())
        self.scale = scale

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """See :meth:`ViewLoss.forward`: invariance, distribution."""
        distance = ((x - y) / 2).square().mean()  # each of two views is half as far from their mean as from the other
        return {
            "invariance": (1.0 - self.scale) * distance,
            "distribution": self.scale * len(x) * self.distribution(x, y),
        }
