"""Sums of numbers in a tree, so that one of many is drawn in proportion, and changed, in logarithmic time."""

import torch
from torch import Tensor

from wmcomponents._arguments import whole


class SumTree:
    """Numbers at least 0 with the sums of halves, of quarters and so on, as one tensor.

    Args:
        size: how many numbers; all 0 at first.

    Raises:
        ValueError: if there are none.

    Example:
        >>> tree = SumTree(3)
        >>> tree.set(torch.tensor([0, 2]), torch.tensor([1.0, 3.0]))
        >>> float(tree.total), tree.find(torch.tensor([0.5, 1.5, 3.9])).tolist()
        (4.0, [0, 2, 2])
    """

    def __init__(self, size: int) -> None:
        self.size = whole("size", size, 1, "a number of numbers, at least 1")
        self.levels = (self.size - 1).bit_length()
        self._sums = torch.zeros(2 << self.levels, dtype=torch.float64)

    @property
    def total(self) -> Tensor:
        """The sum of all, float64 ``[]``."""
        return self._sums[1]

    @property
    def values(self) -> Tensor:
        """All numbers, float64 ``[size]``; a view."""
        first = 1 << self.levels
        return self._sums[first : first + self.size]

    def __getitem__(self, index: Tensor) -> Tensor:
        """Numbers ``[*B]`` at indices int64 ``[*B]``."""
        return self._sums[index + (1 << self.levels)]

    def set(self, index: Tensor, value: Tensor) -> None:
        """Change some numbers; of an index that comes twice one of its values stays.

        Args:
            index: which, int64 ``[B]``.
            value: to what, ``[B]`` or what broadcasts to it.
        """
        place = index + (1 << self.levels)
        self._sums[place] = value.to(self._sums)
        for _ in range(self.levels):
            place = place >> 1
            self._sums[place] = self._sums[2 * place] + self._sums[2 * place + 1]

    def find(self, mass: Tensor) -> Tensor:
        """Where the running sum of the numbers first exceeds a mass, int64 ``[*B]``.

        Never a number that is 0, as long as one is above it; a mass that rounding brought to the total or beyond finds
        the last number above 0.

        Args:
            mass: in [0, total), ``[*B]``.
        """
        mass = mass.to(self._sums)
        place = torch.ones_like(mass, dtype=torch.int64)
        for _ in range(self.levels):
            left = self._sums[2 * place]
            goes_right = (mass >= left) & (self._sums[2 * place + 1] > 0)
            mass = torch.where(goes_right, mass - left, mass)
            place = 2 * place + goes_right
        return place - (1 << self.levels)
