"""What brings advantages of any size to the size of one."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from wmcomponents._global_batch import global_rows
from wmcomponents.objectives import ExponentialAverage


class ReturnNormalizer(nn.Module, ABC):
    """Keeps running statistics of returns; an advantage is divided by :attr:`scale`.

    Statistics are buffers: they are saved with the agent, and stay where its weights are.
    """

    @abstractmethod
    def update(self, returns: Tensor) -> None:
        """Take in the returns of a batch, ``[*B]``."""

    @property
    @abstractmethod
    def scale(self) -> Tensor:
        """What advantages are divided by, a scalar."""

    def forward(self, advantage: Tensor) -> Tensor:
        """``advantage / scale``, ``[*B]``."""
        return advantage / self.scale


class NoNormalizer(ReturnNormalizer):
    """Advantages as they are (Dreamer, DreamerV2)."""

    one: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("one", torch.ones(()), persistent=False)

    def update(self, returns: Tensor) -> None:
        """Nothing is kept of the returns ``[*B]``."""

    @property
    def scale(self) -> Tensor:
        """One."""
        return self.one


class RunningNormalizer(ReturnNormalizer):
    """Base of those that keep exponential averages of two statistics.

    Args:
        rate: share of a new batch in the averages, in (0, 1].
        limit: the scale is at least this.
        debias: whether averages are divided by the share of data in them; without, they start from 0.

    Raises:
        ValueError: if the rate or the limit is out of range.
    """

    first: Tensor
    second: Tensor
    weight: Tensor

    def __init__(self, rate: float = 0.01, limit: float = 1.0, debias: bool = False) -> None:
        super().__init__()
        if not 0.0 < rate <= 1.0 or not limit > 0.0:
            raise ValueError(f"rate is a share in (0, 1] and limit above 0; got rate={rate}, limit={limit}.")
        self.rate, self.limit, self.debias = rate, limit, debias
        self._follow = ExponentialAverage(rate)
        for name in ("first", "second", "weight"):
            self.register_buffer(name, torch.zeros(()))

    @abstractmethod
    def statistics(self, returns: Tensor) -> tuple[Tensor, Tensor]:
        """Two numbers of returns ``[N]``."""

    @torch.no_grad()
    def update(self, returns: Tensor) -> None:
        """Take in the returns of a batch, ``[*B]``."""
        for average, value in zip(
            (self.first, self.second), self.statistics(global_rows(returns.to(self.first.dtype).flatten())), strict=True
        ):
            average.copy_(self._follow.blend(average, value))
        self.weight.copy_(self._follow.blend(self.weight, torch.ones_like(self.weight)))

    def averages(self) -> tuple[Tensor, Tensor]:
        """Both averages, debiased where that is asked for."""
        share = self.weight.clamp_min(1e-8) if self.debias else torch.ones_like(self.weight)
        return self.first / share, self.second / share

    def extra_repr(self) -> str:
        """The numbers."""
        return f"rate={self.rate}, limit={self.limit}, debias={self.debias}"


class PercentileNormalizer(RunningNormalizer):
    """The range between two percentiles of returns, which outliers do not move (DreamerV3).

    Returns smaller than ``limit`` stay as they are, so that noise of rare rewards is not blown up.

    Args:
        rate: share of a new batch in the averages, in (0, 1].
        limit: the scale is at least this.
        debias: whether averages are divided by the share of data in them; DreamerV3's start from 0.
        low: lower quantile.
        high: upper quantile.

    Raises:
        ValueError: if a number is out of range.

    Reference: Hafner et al., Mastering Diverse Domains through World Models (2025), eq. 7 and 8.

    Example:
        >>> normalizer = PercentileNormalizer(rate=1.0)
        >>> normalizer.update(torch.linspace(0.0, 100.0, 101))
        >>> normalizer(torch.tensor([9.0, -18.0]))
        tensor([ 0.1000, -0.2000])
    """

    def __init__(
        self, rate: float = 0.01, limit: float = 1.0, debias: bool = False, low: float = 0.05, high: float = 0.95
    ) -> None:
        super().__init__(rate, limit, debias)
        if not 0.0 <= low < high <= 1.0:
            raise ValueError(f"quantiles rise within [0, 1]; got low={low}, high={high}.")
        self.low, self.high = low, high

    def statistics(self, returns: Tensor) -> tuple[Tensor, Tensor]:
        """Both quantiles of returns ``[N]``, by linear interpolation."""
        ends = torch.quantile(returns, returns.new_tensor([self.low, self.high]))
        return ends[0], ends[1]

    @property
    def scale(self) -> Tensor:
        """The range between the quantiles, at least ``limit``."""
        low, high = self.averages()
        return (high - low).clamp_min(self.limit)


class RankNormalizer(PercentileNormalizer):
    """The same between two returns of the batch that have certain ranks, without interpolation (STORM's code).

    Args:
        rate: share of a new batch in the averages, in (0, 1].
        limit: the scale is at least this.
        debias: whether averages are divided by the share of data in them; STORM's start from 0.
        low: lower quantile.
        high: upper quantile.

    Raises:
        ValueError: if a number is out of range.

    Example:
        >>> normalizer = RankNormalizer(rate=1.0)
        >>> normalizer.update(torch.arange(1.0, 101.0))
        >>> float(normalizer.scale)
        90.0
    """

    def statistics(self, returns: Tensor) -> tuple[Tensor, Tensor]:
        """The returns of ranks ``int(N * low)`` and ``int(N * high)`` of ``[N]``, counted from 1."""
        low, high = (max(1, int(share * returns.numel())) for share in (self.low, self.high))
        return returns.kthvalue(low).values, returns.kthvalue(high).values


class StdNormalizer(RunningNormalizer):
    """The standard deviation of returns.

    Args:
        rate: share of a new batch in the averages, in (0, 1].
        limit: the scale is at least this.
        debias: whether averages are divided by the share of data in them.
    """

    def statistics(self, returns: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and mean square of returns ``[N]``."""
        return returns.mean(), returns.square().mean()

    @property
    def scale(self) -> Tensor:
        """The standard deviation, at least ``limit``."""
        mean, square = self.averages()
        return (square - mean.square()).clamp_min(0.0).sqrt().clamp_min(self.limit)
