"""Which candidates the next search distribution is fitted to, and with which weights."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from wmcomponents._arguments import whole


class Selection(ABC):
    """Selects the best candidates.

    Args:
        count: number of elites K.
    """

    def __init__(self, count: int) -> None:
        self.count = whole("count", count, 1, "a number of elites, at least 1")

    @abstractmethod
    def weigh(self, values: Tensor) -> Tensor:
        """Weights that sum to 1, ``[*B, K]``, of the elites' values ``[*B, K]``, best first."""

    def __call__(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The elites of values ``[*B, N]``.

        Returns:
            Their values, best first, their indices, and their weights, ``[*B, K]`` each.
        """
        elite_values, index = values.topk(self.count, -1)
        return elite_values, index, self.weigh(elite_values)


class EqualElites(Selection):
    """The K best, all alike: the cross-entropy method."""

    def weigh(self, values: Tensor) -> Tensor:
        """``1 / K`` each."""
        return torch.full_like(values, 1.0 / self.count)


class SoftElites(Selection):
    r"""The K best, the better the heavier: model predictive path integral control.

    .. math:: w_k \propto \exp(\beta (v_k - \max v))

    Args:
        count: number of elites K; all candidates, in the original method.
        inverse_temperature: beta, per unit of value. TD-MPC2 calls this number its temperature.
    """

    def __init__(self, count: int, inverse_temperature: float) -> None:
        super().__init__(count)
        self.inverse_temperature = inverse_temperature

    def weigh(self, values: Tensor) -> Tensor:
        """A softmax over the elites."""
        return torch.softmax(self.inverse_temperature * values, -1)


def taken(candidates: Tensor, index: Tensor) -> Tensor:
    """Of candidates ``[*B, N, H, A]`` those with an index ``[*B, K]``: ``[*B, K, H, A]``."""
    return candidates.take_along_dim(index[..., None, None], -3)
