"""How the raw output of a head is read, and judged against the truth."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn


class HeadDistribution(nn.Module, ABC):
    """What raw outputs say of the truth: its most likely or expected value, and how wrong they are.

    Attributes:
        size: number of raw outputs.
    """

    size: int

    def prepare(self, target: Tensor) -> None:
        """Fit to data what is fitted, once, and warn of targets that cannot be said well; nothing here.

        Args:
            target: of the data, ``[*B, N]``.
        """

    @abstractmethod
    def mean(self, raw: Tensor) -> Tensor:
        """The value that raw outputs ``[*B, size]`` stand for, ``[*B, N]``."""

    @abstractmethod
    def loss(self, raw: Tensor, target: Tensor) -> Tensor:
        """Error of raw outputs ``[*B, size]`` against the truth ``[*B, N]``, which gets no gradient: ``[*B]``."""

    def losses(self, raw: Tensor, targets: Sequence[Tensor]) -> list[Tensor]:
        """:meth:`loss` of the same raw outputs against several truths, which may share what they have in common."""
        return [self.loss(raw, target) for target in targets]
