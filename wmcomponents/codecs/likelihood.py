"""How the raw output of a decoder or head is read, and judged against the truth."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from wmcomponents.functional.quantize import quantized
from wmcomponents.functional.reconstruction import squared_error, unit_normal_nll


class Likelihood(nn.Module, ABC):
    """What a raw output says about numbers: their most likely value, and the error against their true one."""

    @abstractmethod
    def mean(self, raw: Tensor) -> Tensor:
        """The most likely value of raw outputs ``[*B, *event]``, of the same shape."""

    @abstractmethod
    def error(self, raw: Tensor, target: Tensor, event_dims: int = 1) -> Tensor:
        """Error of the true value, summed over the event: ``[*B]``; no gradient reaches ``target``.

        Args:
            raw: ``[*B, *event]``.
            target: ``[*B, *event]``.
            event_dims: number of dimensions of an event.
        """


class SquaredError(Likelihood):
    """Squared error without a factor 1/2 (DreamerV3).

    Args:
        offset: what the raw output lacks to the value. Images in [0, 1] are 0.5 above the output of networks that
            see them around 0.
    """

    def __init__(self, offset: float = 0.0) -> None:
        super().__init__()
        self.offset = offset

    def mean(self, raw: Tensor) -> Tensor:
        """``raw + offset``, ``[*B, *event]``."""
        return raw + self.offset if self.offset else raw

    def error(self, raw: Tensor, target: Tensor, event_dims: int = 1) -> Tensor:
        """Sum over the event of ``(raw + offset - target)^2``: ``[*B]``."""
        return squared_error(self.mean(raw), target, event_dims)

    def extra_repr(self) -> str:
        """The offset."""
        return f"offset={self.offset}"


class SigmoidSquaredError(Likelihood):
    """Squared error of the sigmoid, for values in [0, 1] (images of DreamerV3)."""

    def mean(self, raw: Tensor) -> Tensor:
        """``sigmoid(raw)``, ``[*B, *event]``."""
        return raw.sigmoid()

    def error(self, raw: Tensor, target: Tensor, event_dims: int = 1) -> Tensor:
        """Sum over the event of ``(sigmoid(raw) - target)^2``: ``[*B]``."""
        return squared_error(raw.sigmoid(), target, event_dims)


class UnitNormal(SquaredError):
    """Negative log density under a normal of standard deviation 1, constants included (PlaNet, Dreamer, DreamerV2).

    Args:
        offset: what the raw output lacks to the mean, as in :class:`SquaredError`.
    """

    def error(self, raw: Tensor, target: Tensor, event_dims: int = 1) -> Tensor:
        """Sum over the event of ``(raw + offset - target)^2 / 2 + ln(2 pi) / 2``: ``[*B]``."""
        return unit_normal_nll(self.mean(raw), target, event_dims)


class QuantizedUnitNormal(UnitNormal):
    """:class:`UnitNormal` for images of few bits: what is judged is any number, what is shown one of their levels.

    Args:
        bits: of the image.
        offset: what the raw output lacks to the mean, as in :class:`SquaredError`.

    Reference: Hafner et al., Learning Latent Dynamics for Planning from Pixels (PlaNet, 2019), appendix A.
    """

    def __init__(self, bits: int = 5, offset: float = 0.5) -> None:
        super().__init__(offset)
        self.bits = bits

    def mean(self, raw: Tensor) -> Tensor:
        """The level of ``raw + offset`` ``[*B, *event]``, in [0, 1] so that 1 stands for 255."""
        return quantized(super().mean(raw), self.bits) / 255.0

    def error(self, raw: Tensor, target: Tensor, event_dims: int = 1) -> Tensor:
        """As :meth:`UnitNormal.error`, ``[*B]``: levels play no part."""
        return unit_normal_nll(super().mean(raw), target, event_dims)
