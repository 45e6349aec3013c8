"""How steps lie in a file: their tensors one after the other, nothing else, every size known beforehand."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Composite

Key = tuple[str, ...]

LARGEST_STEP = 2**30
"""Bytes of one row."""
LARGEST_PART = 2**28
"""Bytes of a file of several rows."""
PLACE_BYTES = 8

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    )
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Layout:
    """The tensors of a row, in the order in which they lie in a file.

    A file of R rows holds, each without padding: the places of its *loose* images (int64, ``row * streams +
    stream``); then, for each key, its ``[R, *batch, *shape]`` values, followed by the loose images of that key if it
    is an image. The image under ``next`` is not written: it is the image of the following row, or a loose one
    where it is not. Wider dtypes come first, so that every tensor is aligned.

    Attributes:
        leaves: key, dtype and shape of each tensor of a step.
        batch: ``()`` for one stream, ``(N,)`` for N.
    """

    leaves: tuple[tuple[Key, torch.dtype, tuple[int, ...]], ...]
    batch: tuple[int, ...] = ()

    @classmethod
    def of(cls, steps: TensorDictBase, batch_dims: int) -> "Layout":
        """The layout of steps whose first ``batch_dims`` dimensions are rows and, if two, streams.

        Raises:
            TypeError: for an entry that is no tensor, or of a dtype that cannot be kept.
        """
        leaves = []
        for name in steps.keys(True, True):
            key, value = (name,) if isinstance(name, str) else name, steps.get(name)
            if not isinstance(value, Tensor) or value.dtype not in _NAMES:
                kind = getattr(value, "dtype", type(value).__name__)
                raise TypeError(f"{'/'.join(key)} is of {kind}; a data folder keeps tensors of {', '.join(DTYPES)}.")
            leaves.append((key, value.dtype, tuple(value.shape[batch_dims:])))
        return cls(_sorted(leaves), tuple(steps.shape[1:batch_dims]))

    @classmethod
    def of_spec(cls, spec: Composite, streams: int) -> "Layout":
        """The layout of steps of a spec (:func:`~wmcomponents.data.transition_spec`)."""
        keys = [(name,) if isinstance(name, str) else name for name in spec.keys(True, True)]
        leaves = [(key, cast(torch.dtype, spec[key].dtype), tuple(spec[key].shape)) for key in keys]
        return cls(_sorted(leaves), () if streams == 1 else (streams,))

    @classmethod
    def from_json(cls, leaves: Any, batch: Any) -> "Layout":
        """The inverse of :meth:`to_json`.

        Raises:
            ValueError: if it is not what that writes.
        """
        if not isinstance(leaves, list) or not 1 <= len(leaves) <= 4096:
            raise ValueError("it names no steps")
        if not _is_shape(batch) or len(batch) > 1:
            raise ValueError("its batch is none")
        found = [_leaf(leaf) for leaf in leaves]
        layout = cls(tuple(found), tuple(batch))
        if _doubled([key for key, _, _ in found]) or layout.leaves != _sorted(found):
            raise ValueError("its entries are doubled, or out of order")
        if not 1 <= layout.row_bytes <= LARGEST_STEP:
            raise ValueError(f"a row of {layout.row_bytes:,} bytes; 1 to {LARGEST_STEP:,} are possible")
        return layout

    def to_json(self) -> list[list[Any]]:
        """The leaves as plain JSON."""
        return [[list(key), _NAMES[dtype], list(shape)] for key, dtype, shape in self.leaves]

    @property
    def streams(self) -> int:
        """How many streams a row has."""
        return math.prod(self.batch)

    @cached_property
    def images(self) -> frozenset[Key]:
        """Keys that are written once for a step and for what followed it."""
        kinds = {key: (dtype, shape) for key, dtype, shape in self.leaves}
        return frozenset(
            key
            for key, (dtype, shape) in kinds.items()
            if len(shape) >= 3 and not dtype.is_floating_point and kinds.get(("next", *key)) == (dtype, shape)
        )

    @cached_property
    def written(self) -> tuple[tuple[Key, torch.dtype, tuple[int, ...]], ...]:
        """The leaves that lie in a file."""
        return tuple(leaf for leaf in self.leaves if not (leaf[0][0] == "next" and leaf[0][1:] in self.images))

    @cached_property
    def row_bytes(self) -> int:
        """Bytes of a row, without loose images."""
        return self.streams * sum(math.prod(shape) * dtype.itemsize for _, dtype, shape in self.written)

    def file_bytes(self, rows: int, loose: int) -> int:
        """Bytes of a file with so many rows and loose images."""
        kept = sum(math.prod(s) * d.itemsize for key, d, s in self.written if key in self.images)
        return rows * self.row_bytes + loose * (PLACE_BYTES + kept)

    def pack(self, steps: TensorDictBase) -> tuple[list[memoryview], int]:
        """Steps ``[R, *batch]`` as the pieces of a file, and the number of loose images among them."""
        places = self._loose(steps)
        pieces = [places]
        for key, dtype, shape in self.written:
            value = steps.get(key).to(device="cpu", dtype=dtype)
            pieces.append(value)
            if key in self.images:
                following = steps.get(("next", *key)).to("cpu").reshape(-1, *shape)
                pieces.append(following[places])
        return [_bytes_of(piece) for piece in pieces], len(places)

    def unpack(self, data: bytearray, rows: int, loose: int) -> TensorDict:
        """The inverse of :meth:`pack`, on memory of its own.

        Raises:
            ValueError: if these bytes are no such steps.
        """
        at = 0

        def take(dtype: torch.dtype, *shape: int) -> Tensor:
            nonlocal at
            count = math.prod(shape)
            raw = torch.frombuffer(data, dtype=torch.uint8, count=count * dtype.itemsize, offset=at) if count else None
            at += count * dtype.itemsize
            if raw is None:
                return torch.empty(shape, dtype=dtype)
            if dtype == torch.bool and int(raw.max()) > 1:
                raise ValueError("a flag is neither true nor false")
            return raw.view(dtype).reshape(shape)

        places = take(torch.int64, loose)
        self._check_places(places, rows)
        steps = TensorDict({}, [rows, *self.batch])
        for key, dtype, shape in self.written:
            value = take(dtype, rows, *self.batch, *shape)
            steps.set(key, value)
            if key in self.images:
                following = torch.cat([value[1:], value[:1]]).reshape(rows * self.streams, *shape)
                following[places] = take(dtype, loose, *shape)
                steps.set(("next", *key), following.reshape(value.shape))
        return steps

    def _loose(self, steps: TensorDictBase) -> Tensor:
        """Places whose next image the following row does not show; always those of the last row."""
        if not self.images:
            return torch.empty(0, dtype=torch.int64)
        shown = torch.zeros(len(steps), self.streams, dtype=torch.bool)
        places = (len(steps) - 1, self.streams)
        agree = [
            (steps.get(("next", *key))[:-1] == steps.get(key)[1:]).reshape(*places, math.prod(shape)).all(-1)
            for key, _, shape in self.written
            if key in self.images
        ]
        shown[:-1] = torch.stack(agree).all(0).cpu()
        return torch.nonzero(~shown.flatten())[:, 0]

    def _check_places(self, places: Tensor, rows: int) -> None:
        if not self.images:
            if len(places):
                raise ValueError("it keeps images where a step has none")
            return
        count = rows * self.streams
        last = torch.arange(count - self.streams, count)
        rising = bool((places[1:] > places[:-1]).all()) and int(places.min() if len(places) else 0) >= 0
        if not rising or len(places) < self.streams or not places[-self.streams :].equal(last):
            raise ValueError("the places of its images are none")


def _sorted(leaves: list[tuple[Key, torch.dtype, tuple[int, ...]]]) -> tuple:
    return tuple(sorted(leaves, key=lambda leaf: (-leaf[1].itemsize, leaf[0])))


def _doubled(keys: list[Key]) -> bool:
    """Whether a key stands twice, or is a folder of another."""
    below = {key[:n] for key in keys for n in range(1, len(key))}
    return len(set(keys)) < len(keys) or not below.isdisjoint(keys)


def _leaf(leaf: Any) -> tuple[Key, torch.dtype, tuple[int, ...]]:
    """One entry of a step from JSON."""
    if not isinstance(leaf, list) or len(leaf) != 3:
        raise ValueError("an entry of a step is a key, a dtype and a shape")
    key, dtype, shape = leaf
    if not isinstance(key, list) or not 1 <= len(key) <= 32 or not all(isinstance(k, str) and k for k in key):
        raise ValueError(f"a key is a list of names; got {str(key)[:99]}")
    if not isinstance(dtype, str) or dtype not in DTYPES or not _is_shape(shape):
        raise ValueError(f"{'/'.join(key)[:99]} has no dtype or shape that steps have")
    return tuple(key), DTYPES[dtype], tuple(shape)


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, list) and len(shape) <= 16 and all(type(n) is int and 0 <= n <= 2**40 for n in shape)


def _bytes_of(tensor: Tensor) -> memoryview:
    flat = tensor.contiguous().reshape(-1)
    return memoryview(cast(Any, flat.view(torch.uint8).numpy()) if len(flat) else b"")
