"""Values of one entry between its Gymnasium space and its spec."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchrl.data import OneHot, TensorSpec

from wmcomponents.codecs.dtypes import numpy_dtype, torch_dtype
from wmcomponents.codecs.entry import sizes_of, space_of


class EntryCodec:
    """Values of one entry, between its Gymnasium space and its spec; with any leading dims, arrays and tensors alike.

    Args:
        spec: of one row.
        device: where tensors go.

    Attributes:
        space: see :func:`space_of`.
        is_choice: whether values are numbers of alternatives.
        sizes: alternatives of each choice, flat.
        start: the first number of each choice, an array of the space's shape.
        is_same: whether arrays of the space are tensors of the spec as they stand.
    """

    def __init__(self, spec: TensorSpec, device: torch.device | None = None) -> None:
        self.spec, self.space = spec, space_of(spec)
        self.sizes = sizes_of(spec)
        self.is_choice = bool(self.sizes)
        self.shape: tuple[int, ...] = tuple(self.space.shape)
        self.start = np.asarray(self.space.start) if self.is_choice else np.zeros(self.shape, np.int64)
        self._inner, self._dtype = tuple(spec.shape), self.space.dtype
        self._offset = torch.as_tensor(self.start.astype(np.int64), device=device) if self.start.any() else None
        hot = self.sizes if isinstance(spec, OneHot) else []
        self._tables = [torch.eye(size, dtype=spec.dtype, device=device) for size in hot]
        self.is_same = not self.is_choice and self._inner == self.shape and numpy_dtype(spec.dtype) == self._dtype

    def read(self, value: Tensor) -> Tensor:
        """Values of the space ``[rows, *space.shape]`` as the spec holds them, ``[rows, *spec.shape]``."""
        if not self.is_choice:
            value = value if value.dtype is self.spec.dtype else value.to(self.spec.dtype)
            return value if self._inner == self.shape else value.reshape(len(value), *self._inner)
        return self._read_choices(value)

    def _read_choices(self, value: Tensor) -> Tensor:
        # An index of bytes would be taken for a mask.
        index = value if value.dtype is torch.int64 else value.to(torch.int64)
        if self._offset is not None:
            index = index - self._offset
        if not self._tables:
            return index.to(self.spec.dtype).reshape(len(value), *self._inner)
        if len(self._tables) == 1:
            hot = self._tables[0][index if index.ndim == 1 else index.reshape(-1)]
            return hot if len(self._inner) == 1 else hot.reshape(len(value), *self._inner)
        columns = index.reshape(len(value), -1).unbind(-1)
        hot = torch.cat([table[column] for table, column in zip(self._tables, columns, strict=True)], dim=-1)
        return hot.reshape(len(value), *self._inner)

    def write(self, value: Any) -> Any:
        """Values of the spec ``[*lead, *spec.shape]`` as the space shows them, ``[*lead, *space.shape]``."""
        if self.is_same:
            return value
        lead = tuple(value.shape[: value.ndim - len(self._inner)])
        if self._tables:
            value = self._indices(value.reshape((*lead, -1)))
        if tuple(value.shape) != (*lead, *self.shape):
            value = value.reshape((*lead, *self.shape))
        if self._offset is not None:
            value = value + (self._offset.to(value.device) if isinstance(value, Tensor) else self.start)
        return _cast(value, self._dtype)

    def _indices(self, flat: Any) -> Any:
        if isinstance(flat, Tensor):
            flat = flat.to(torch.uint8)  # torch finds no argmax of booleans
        if len(self.sizes) == 1:
            return flat.argmax(-1)
        stack = torch.stack if isinstance(flat, Tensor) else np.stack
        ends = np.cumsum(self.sizes)
        return stack([flat[..., end - size : end].argmax(-1) for size, end in zip(self.sizes, ends, strict=True)], -1)


def _cast(value: Any, dtype: np.dtype) -> Any:
    if isinstance(value, Tensor):
        own = torch_dtype(dtype)
        return value if own is None or value.dtype is own else value.to(own)
    return value.astype(dtype, copy=False)
