"""How long a plan may be searched for."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import torch

from wmcomponents._arguments import whole


class Budget(ABC):
    """Hands out the iterations of a plan.

    Attributes:
        most: the largest number of iterations.
    """

    most: int

    @abstractmethod
    def iterations(self, device: torch.device) -> Iterator[int]:
        """Indices of the iterations, one after the other, as long as they are allowed.

        Args:
            device: where the search runs.
        """


class Iterations(Budget):
    """A number of iterations.

    Args:
        count: how many.
    """

    def __init__(self, count: int) -> None:
        self.most = whole("count", count, 1, "a number of iterations, at least 1")

    def iterations(self, device: torch.device) -> Iterator[int]:
        """All of them."""
        return iter(range(self.most))


class Milliseconds(Budget):
    """As many iterations as fit into a time, and at least one.

    An iteration begins only if the longest one so far would still end in time. On an accelerator each is waited for.

    Args:
        limit: the time, in milliseconds.
        most: the largest number of iterations.
        clock: seconds, as ``time.perf_counter`` gives them.
    """

    def __init__(self, limit: float, most: int = 1000, clock: Callable[[], float] = time.perf_counter) -> None:
        if not limit > 0:
            raise ValueError(f"limit is a time in milliseconds, above 0; got {limit}.")
        self.limit, self.clock = limit, clock
        self.most = whole("most", most, 1, "a number of iterations, at least 1")

    def iterations(self, device: torch.device) -> Iterator[int]:
        """Those that fit."""
        begin = now = self.clock()
        longest = 0.0
        for iteration in range(self.most):
            if iteration > 0 and (now + longest - begin) * 1e3 > self.limit:
                return
            yield iteration
            if device.type != "cpu":
                torch.accelerator.synchronize(device)
            before, now = now, self.clock()
            longest = max(longest, now - before)
