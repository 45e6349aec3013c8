"""One observation of an environment as features, and back: numbers, bits, categories, images, boards."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from wmcomponents.codecs.image_layout import SMALLEST_IMAGE, spatial_axis
from wmcomponents.codecs.likelihood import Likelihood, SigmoidSquaredError, SquaredError
from wmcomponents.functional.distributions.categorical import one_hot
from wmcomponents.functional.reconstruction import bernoulli_cross_entropy, categorical_cross_entropy


class ObservationCodec(nn.Module, ABC):
    """One observation of an environment: the way to features, the way exactly back, and the error between the two.

    Args:
        shape: shape in the environment, without batch dimensions.
        dtype: dtype in the environment.

    Attributes:
        shape: shape in the environment.
        dtype: dtype in the environment.
        size: number of features.
    """

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        super().__init__()
        self.shape, self.dtype = shape, dtype
        self.size = torch.Size(shape).numel()

    def extra_repr(self) -> str:
        """Shape and dtype."""
        return f"shape={self.shape}, dtype={self.dtype}"

    def lead(self, x: Tensor) -> torch.Size:
        """The batch dimensions of ``x``, ``[*batch, *shape]``."""
        return x.shape[: x.ndim - len(self.shape)]

    def encode(self, x: Tensor) -> Tensor:
        """An observation ``[*batch, *shape]`` as float features: ``[*batch, size]``, boards in their own shape."""
        return x.reshape((*self.lead(x), self.size)).to(torch.float32)

    @abstractmethod
    def decode(self, raw: Tensor) -> Tensor:
        """Raw network outputs, shaped as the features, as the most likely observation ``[*batch, *shape]``."""

    @abstractmethod
    def error(self, raw: Tensor, features: Tensor) -> Tensor:
        """Error of raw outputs against the features of the truth, summed over the event: ``[*batch]``."""


class VectorCodec(ObservationCodec):
    """Numbers. A transform of many such vectors together is up to the caller.

    Args:
        shape: shape in the environment.
        dtype: dtype in the environment; integers are rounded.
        low: lower bounds of ``shape``, or None.
        high: upper bounds of ``shape``, or None.

    Attributes:
        likelihood: how raw outputs are read and judged; a decoder puts its own in place of the squared error.
    """

    likelihood: Likelihood

    low: Tensor | None
    high: Tensor | None

    def __init__(
        self, shape: tuple[int, ...], dtype: torch.dtype, low: Tensor | None = None, high: Tensor | None = None
    ) -> None:
        super().__init__(shape, dtype)
        self.likelihood = SquaredError()
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("high", high, persistent=False)

    def decode(self, raw: Tensor) -> Tensor:
        """``[*B, size]`` as ``[*B, *shape]``: rounded for integers, clamped to the bounds."""
        x = raw.reshape((*raw.shape[:-1], *self.shape))
        if not self.dtype.is_floating_point:
            x = x.round()
        if self.low is not None or self.high is not None:
            x = x.clamp(self.low, self.high)
        return x.to(self.dtype)

    def error(self, raw: Tensor, features: Tensor) -> Tensor:
        """What the likelihood says of raw outputs ``[*B, size]``: ``[*B]``."""
        return self.likelihood.error(raw, features)


class BinaryCodec(ObservationCodec):
    """Bits that are not a board, under the Bernoulli cross entropy."""

    def decode(self, raw: Tensor) -> Tensor:
        """Logits ``[*B, size]`` as ``[*B, *shape]``: 1 where the logit is positive."""
        return (raw > 0).reshape((*raw.shape[:-1], *self.shape)).to(self.dtype)

    def error(self, raw: Tensor, features: Tensor) -> Tensor:
        """Binary cross entropy of logits ``[*B, size]``: ``[*B]``."""
        return bernoulli_cross_entropy(raw, features)


class DiscreteCodec(ObservationCodec):
    """One or more categories, each as a one-hot vector, under the cross entropy.

    Args:
        shape: shape in the environment.
        dtype: dtype in the environment.
        classes: alternatives of each category.
        is_one_hot: whether the environment itself shows one-hot vectors.
    """

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, classes: tuple[int, ...], is_one_hot: bool) -> None:
        super().__init__(shape, dtype)
        self.classes, self.is_one_hot, self.size = classes, is_one_hot, sum(classes)

    def encode(self, x: Tensor) -> Tensor:
        """One-hot vectors side by side, ``[*batch, size]``; a negative index gives zeros."""
        if self.is_one_hot:
            return super().encode(x)
        return self._one_hots(x.reshape((*self.lead(x), len(self.classes))).unbind(-1))

    def decode(self, raw: Tensor) -> Tensor:
        """The most likely classes ``[*B, *shape]`` of logits ``[*B, size]``."""
        winners = [logits.argmax(-1) for logits in raw.split(self.classes, -1)]
        x = self._one_hots(winners) if self.is_one_hot else torch.stack(winners, -1)
        return x.reshape((*raw.shape[:-1], *self.shape)).to(self.dtype)

    def error(self, raw: Tensor, features: Tensor) -> Tensor:
        """Cross entropy of logits ``[*B, size]``, summed over the categories: ``[*B]``."""
        pairs = zip(raw.split(self.classes, -1), features.split(self.classes, -1), strict=True)
        return torch.stack([categorical_cross_entropy(logits, truth) for logits, truth in pairs]).sum(0)

    def _one_hots(self, indices) -> Tensor:
        return torch.cat([one_hot(i, n) for i, n in zip(indices, self.classes, strict=True)], -1)


class ImageCodec(ObservationCodec):
    """An image in any layout, whose features ``[*batch, H, W, C]`` are in [0, 1].

    Axes beside height and width, before or after them, are channels: colours, or a stack of frames.

    Args:
        shape: (H, W, C), (H, W), (C, H, W), or a stack of one of them.
        dtype: uint8, or a float dtype.
        white: the value of a full pixel: 255, or 1.

    Attributes:
        likelihood: how raw outputs are read and judged; a decoder puts its own in place of the squared error of the
            sigmoid.
        image_shape: (H, W, C).
        is_plain: whether the environment itself shows bytes (H, W, C).
    """

    likelihood: Likelihood

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, white: float = 255.0) -> None:
        super().__init__(shape, dtype)
        self.likelihood = SigmoidSquaredError()
        self.white = white
        first = spatial_axis(shape)
        if first is None:
            raise ValueError(f"an image has two sides of {SMALLEST_IMAGE} and more, side by side; got shape {shape}.")
        channels = [axis for axis in range(len(shape)) if axis not in (first, first + 1)]
        self._order = (first, first + 1, *channels)
        self._back = tuple(self._order.index(axis) for axis in range(len(shape)))
        self._ordered = tuple(shape[axis] for axis in self._order)
        count = torch.Size(self._ordered[2:]).numel()
        self.image_shape = (self._ordered[0], self._ordered[1], count)
        self._is_ordered = channels == [2]
        self.is_plain = self._is_ordered and dtype == torch.uint8

    def image(self, x: Tensor) -> Tensor:
        """An image as the environment shows it, in its own dtype, laid out ``[*batch, H, W, C]``."""
        if self._is_ordered:
            return x
        lead = self.lead(x)
        turned = x.permute(*range(len(lead)), *(len(lead) + axis for axis in self._order))
        return turned.reshape(*lead, *self.image_shape)

    def layout(self, image: Tensor) -> Tensor:
        """The inverse of :meth:`image`: ``[*B, H, W, C]`` to ``[*B, *shape]``."""
        if self._is_ordered:
            return image
        lead = image.shape[:-3]
        return image.reshape(*lead, *self._ordered).permute(
            *range(len(lead)), *(len(lead) + axis for axis in self._back)
        )

    def levels(self, x: Tensor) -> Tensor:
        """An image from 0 to 255 ``[*batch, H, W, C]``: uint8 of bytes, float32 of floats."""
        x = self.image(x)
        return x if self.dtype == torch.uint8 else x.to(torch.float32) * (255.0 / self.white)

    def encode(self, x: Tensor) -> Tensor:
        """In [0, 1], ``[*batch, H, W, C]``."""
        return self.image(x).to(torch.float32) / self.white

    def decode(self, raw: Tensor) -> Tensor:
        """``[*B, H, W, C]`` to ``[*B, *shape]`` in the environment's dtype; bytes are rounded to 256 levels."""
        pixels = self.likelihood.mean(raw).clamp(0.0, 1.0) * self.white
        return self.layout(pixels.round() if self.dtype == torch.uint8 else pixels).to(self.dtype)

    def error(self, raw: Tensor, features: Tensor) -> Tensor:
        """What the likelihood says of images ``[*B, H, W, C]`` in [0, 1]: ``[*B]``."""
        return self.likelihood.error(raw, features, event_dims=3)


class BoardCodec(ObservationCodec):
    """A small board (H, W, C) of bits or small integers, under the Bernoulli cross entropy of its unit range.

    Args:
        shape: shape in the environment.
        dtype: dtype in the environment.
        low: lower bounds of ``shape``; None for bits.
        high: upper bounds of ``shape``; None for bits.
    """

    low: Tensor
    span: Tensor

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        height, width, channels = self.shape
        return height, width, channels

    def __init__(
        self, shape: tuple[int, ...], dtype: torch.dtype, low: Tensor | None = None, high: Tensor | None = None
    ) -> None:
        super().__init__(shape, dtype)
        low = torch.zeros(shape) if low is None else low
        high = torch.ones(shape) if high is None else high
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("span", (high - low).clamp(min=1.0), persistent=False)

    def encode(self, x: Tensor) -> Tensor:
        """In [0, 1], ``[*batch, H, W, C]``."""
        return (x.to(torch.float32) - self.low) / self.span

    def decode(self, raw: Tensor) -> Tensor:
        """Logits ``[*B, H, W, C]`` as the nearest value of the range; for bits, 1 where the logit is positive."""
        return (raw.sigmoid() * self.span + self.low).round().to(self.dtype)

    def error(self, raw: Tensor, features: Tensor) -> Tensor:
        """Binary cross entropy of logits ``[*B, H, W, C]``: ``[*B]``; targets between 0 and 1 are soft."""
        return bernoulli_cross_entropy(raw, features, event_dims=3)
