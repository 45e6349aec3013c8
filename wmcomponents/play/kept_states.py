"""The states of a played dream, as many as the memory holds: thinned from the oldest on, never lost."""

from collections.abc import Iterable
from typing import cast

from tensordict import TensorDict
from torch import Tensor


class KeptStates:
    """Saved states by the number of their moment, below a budget.

    Where the budget is spent, every second state that is not a root is let go, oldest first. What was let go is
    computed again from the state before it: a dream is a function of its state, its generator and its actions.

    Args:
        budget: bytes.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._states: dict[int, TensorDict] = {}
        self._roots: set[int] = set()
        self.bytes = 0

    def __contains__(self, number: int) -> bool:
        return number in self._states

    def __getitem__(self, number: int) -> TensorDict:
        return self._states[number]

    def __len__(self) -> int:
        return len(self._states)

    def keep(self, number: int, saved: TensorDict, *, root: bool = False) -> None:
        """Keep a state; a root is kept until it is forgotten."""
        if number in self._states:
            return
        self._states[number] = saved
        self.bytes += _bytes(saved)
        if root:
            self._roots.add(number)
        while self.bytes > self._budget:
            thinned = [each for each in self._states if each not in self._roots and each != number]
            if not thinned:
                return
            # Every second one of the older half, so that what was played last is rewound at once.
            for each in thinned[: max(1, len(thinned) // 2) : 2]:
                self._drop(each)

    def forget(self, numbers: Iterable[int]) -> None:
        """Let go of the states of moments that are gone."""
        for number in numbers:
            self._roots.discard(number)
            self._drop(number)

    def _drop(self, number: int) -> None:
        saved = self._states.pop(number, None)
        if saved is not None:
            self.bytes -= _bytes(saved)


def _bytes(saved: TensorDict) -> int:
    return sum(cast(Tensor, value).nbytes for value in saved.values(True, True))
