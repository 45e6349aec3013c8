"""What a recurrent cell is: from (deter, stoch, action) to the next deter."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from wmcomponents.dynamics.rssm.scan import CellScan


class Cell(nn.Module, ABC):
    """The deterministic path of a recurrent state-space model.

    A sequence calls :meth:`prepare` once for all its actions and :meth:`step` for each time step, so that whatever does
    not depend on the state is computed in one batch. One time step is ``step(deter, stoch, prepare(action))``.

    Attributes:
        deter: size of the recurrent state.
    """

    deter: int

    def scan(self, deter: Tensor, stoch: Tensor, prepared: Tensor, out: Tensor) -> CellScan:
        """This cell unrolled over time on the given buffers, ``[T, B, ...]``; only asked where :attr:`can_scan`."""
        raise NotImplementedError(f"{type(self).__name__} offers no scan.")

    @property
    def can_scan(self) -> bool:
        """Whether :meth:`scan` is there; a cell without is differentiated by autograd."""
        return False

    @abstractmethod
    def prepare(self, action: Tensor) -> Tensor:
        """The action's part of the step, ``[*B, A]`` to ``[*B, P]``."""

    @abstractmethod
    def step(self, deter: Tensor, stoch: Tensor, prepared: Tensor) -> Tensor:
        """``[*B, deter]``, flat ``[*B, S]`` and ``[*B, P]`` to the next ``[*B, deter]``."""

    def forward(self, deter: Tensor, stoch: Tensor, action: Tensor) -> Tensor:
        """One step: ``[*B, deter]``, flat ``[*B, S]`` and ``[*B, A]`` to the next ``[*B, deter]``."""
        return self.step(deter, stoch, self.prepare(action))
