"""Several optimisers as one."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.optim import Optimizer

from wmcomponents.optim.stepping import evaluated


class SideBySide(Optimizer):
    """Several optimisers of different parameters as one, each by its own rule: what one clips touches no other.

    Parameter groups and state are those of all, one after the other, so that it is scheduled, saved and loaded as any
    optimiser.

    Args:
        optimizers: the optimisers; stepped by this one alone from here on.

    Raises:
        ValueError: if there is none, or two have a parameter in common.
    """

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self.parts = list(optimizers)
        super().__init__([group for part in self.parts for group in part.param_groups], {})
        self._counts = [len(part.param_groups) for part in self.parts]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Step every parameter that has a gradient."""
        loss = evaluated(closure)
        begin = 0
        for part, count in zip(self.parts, self._counts, strict=True):
            # Given anew each time: loading a state puts other groups in place.
            part.param_groups = self.param_groups[begin : begin + count]
            part.state = self.state
            part.step()
            begin += count
        return loss

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "parts": self.parts, "_counts": self._counts}
