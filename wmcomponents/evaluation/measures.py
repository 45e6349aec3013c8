"""The error of one kind of observation, and its typical value in the data."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from wmcomponents.codecs.observation import DiscreteCodec, ImageCodec, ObservationCodec, VectorCodec

VECTOR_METRIC, IMAGE_METRIC, SYMBOL_METRIC = "normalised MSE", "MSE", "error rate"


class Measure(ABC):
    """The error of one kind of observation.

    Attributes:
        metric: its name.
        typical: the value that no model is needed for, once fitted.
    """

    metric: str
    typical: Tensor

    def __init__(self, codec: ObservationCodec) -> None:
        self.codec = codec

    @abstractmethod
    def fit(self, data: Tensor) -> "Measure":
        """Read the typical value off ``[B, T, ...]``."""

    @abstractmethod
    def error(self, shown: Tensor, truth: Tensor) -> Tensor:
        """``[N, ...]`` against ``[N, ...]``: ``[N]``."""

    def average(self, shown: Tensor) -> Tensor:
        """What several dreams ``[N, samples, ...]`` show together, ``[N, ...]``: their mean."""
        return shown.double().mean(1)

    def moving_error(self, shown: Tensor, truth: Tensor, last: Tensor) -> Tensor | None:
        """The error of the places where ``truth`` differs from ``last``: ``[N]``, NaN for rows where none does.

        ``None`` for observations without places. Copying ``last`` is wrong in all of these places.
        """
        return None


class VectorMeasure(Measure):
    """Squared error over the variance of the data, averaged over the components that vary."""

    metric = VECTOR_METRIC

    def fit(self, data: Tensor) -> "VectorMeasure":
        """Mean and variance of every component of ``[B, T, ...]``."""
        values = data.cpu().flatten(0, 1).double()
        self.typical = values.mean(0)
        variance = values.var(0, correction=0).reshape(-1)
        # A component that does not vary says nothing about the model, and has no scale to measure it by.
        self._varies = variance > 1e-12 * (1.0 + self.typical.reshape(-1).square())
        self._variance = variance[self._varies]
        return self

    def error(self, shown: Tensor, truth: Tensor) -> Tensor:
        """Squared error over the variance, ``[N]`` of ``[N, ...]``."""
        squares = (shown.double() - truth.double()).square().reshape(len(truth), -1)
        if not bool(self._varies.any()):
            return squares.mean(1)
        return (squares[:, self._varies] / self._variance).mean(1)


class ImageMeasure(Measure):
    """Mean squared error of values in [0, 1], ``[N]`` of ``[N, H, W, C]``."""

    metric = IMAGE_METRIC

    def fit(self, data: Tensor) -> "ImageMeasure":
        """The mean of images ``[B, T, H, W, C]``."""
        # A frame at a time: the whole batch in floating point would take several times its size.
        self.typical = torch.stack([data[:, t].cpu().double().mean(0) for t in range(data.shape[1])]).mean(0)
        return self

    def error(self, shown: Tensor, truth: Tensor) -> Tensor:
        """Mean squared error of values in [0, 1], ``[N]`` of ``[N, H, W, C]``."""
        return (self.codec.encode(shown) - self.codec.encode(truth)).square().flatten(1).mean(1).double()

    def moving_error(self, shown: Tensor, truth: Tensor, last: Tensor) -> Tensor:
        """Mean squared error of the pixels that changed in any channel, ``[N]`` of ``[N, H, W, C]``."""
        shown, truth, last = (self.codec.encode(image) for image in (shown, truth, last))
        return _mean_where((shown - truth).square().mean(-1).double(), (truth != last).any(-1))


class SymbolMeasure(Measure):
    """Share of cells, categories or bits that are wrong."""

    metric = SYMBOL_METRIC

    def fit(self, data: Tensor) -> "SymbolMeasure":
        """The most common values of ``[B, T, ...]``."""
        values = data.cpu().flatten(0, 1)
        if isinstance(self.codec, DiscreteCodec) and self.codec.is_one_hot:
            hottest = [
                torch.nn.functional.one_hot(part.sum(0).argmax(-1), part.shape[-1])
                for part in values.long().split(self.codec.classes, -1)
            ]
            self.typical = torch.cat(hottest, -1).to(values.dtype)
        else:
            self.typical = values.long().mode(0).values.to(values.dtype)
        return self

    def error(self, shown: Tensor, truth: Tensor) -> Tensor:
        """Share that is wrong, ``[N]`` of ``[N, ...]``; a cell of a board is wrong if any of its planes is."""
        differs = shown.to(truth.dtype) != truth
        if isinstance(self.codec, DiscreteCodec) and self.codec.is_one_hot:
            wrong = torch.stack([part.any(-1) for part in differs.split(self.codec.classes, -1)], -1)
        else:
            wrong = differs.any(-1) if differs.ndim == 4 else differs
        return wrong.reshape(len(wrong), -1).double().mean(1)

    def average(self, shown: Tensor) -> Tensor:
        """What most of the dreams ``[N, samples, ...]`` show, symbol by symbol, ``[N, ...]``."""
        if isinstance(self.codec, DiscreteCodec) and self.codec.is_one_hot:
            votes = shown.double().mean(1).split(self.codec.classes, -1)
            winners = [torch.nn.functional.one_hot(part.argmax(-1), part.shape[-1]) for part in votes]
            return torch.cat(winners, -1).to(shown.dtype)
        return shown.long().mode(1).values.to(shown.dtype)

    def moving_error(self, shown: Tensor, truth: Tensor, last: Tensor) -> Tensor | None:
        """Share of the cells of a board ``[N, H, W, C]`` that changed and are shown wrong, ``[N]``."""
        if truth.ndim != 4:
            return None
        wrong = (shown.to(truth.dtype) != truth).any(-1).double()
        return _mean_where(wrong, (truth != last).any(-1))


def measure_of(codec: ObservationCodec) -> Measure:
    """The measure of a kind of observation."""
    if isinstance(codec, VectorCodec):
        return VectorMeasure(codec)
    if isinstance(codec, ImageCodec):
        return ImageMeasure(codec)
    return SymbolMeasure(codec)


def _mean_where(values: Tensor, where: Tensor) -> Tensor:
    """Mean over the places ``[N, H, W]`` that are true; NaN for rows without one."""
    total = (values * where).flatten(1).sum(1)
    return total / where.flatten(1).sum(1)
