"""Storages that keep each image once, although a transition shows two."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from tensordict import NestedKey, TensorDictBase, unravel_key
from torch import Tensor
from torchrl.data import LazyTensorStorage, TensorStorage

from wmcomponents.data.memmap import WorkingMemmapStorage
from wmcomponents.data.transitions import under_next

Images = dict[NestedKey, Tensor]


class LooseImages:
    """A table of the images that no following row shows, with the place of each.

    Args:
        rows: of the storage.
        streams: of the storage.
        device: where the table lives.
    """

    def __init__(self, rows: int, streams: int, device: torch.device | str) -> None:
        self.slot = torch.full((rows, streams), -1, dtype=torch.int64, device=device)  # -1 where there is none
        self.table: Images = {}
        self.free: list[int] = []

    def __len__(self) -> int:
        return int((self.slot >= 0).sum())

    def put(self, row: Tensor, stream: Tensor, images: Images) -> None:
        """Keep ``images``, ``[n, ...]`` each, as those that follow the n places; these must hold none yet."""
        count = len(row)
        self._grow(count, images)
        taken = torch.tensor([self.free.pop() for _ in range(count)], dtype=torch.int64, device=self.slot.device)
        for key, image in images.items():
            self.table[key][taken] = image
        self.slot[row, stream] = taken

    def drop(self, row: Tensor, stream: Tensor) -> None:
        """Forget what is kept for these places, if anything."""
        slot = self.slot[row, stream]
        self.free.extend(slot[slot >= 0].tolist())
        self.slot[row, stream] = -1

    def lay_over(self, key: NestedKey, image: Tensor, row: Tensor, stream: Tensor) -> Tensor:
        """``image``, ``[*places, ...]``, with the kept ones where the places hold some."""
        slot = self.slot[row, stream]
        kept = slot >= 0
        if self.table:
            image[kept] = self.table[key][slot[kept]]
        return image

    def to_dict(self) -> dict[str, Any]:
        """The table as tensors, without its empty slots."""
        row, stream = torch.nonzero(self.slot >= 0, as_tuple=True)
        slot = self.slot[row, stream]
        images = {str(i): table[slot] for i, table in enumerate(self.table.values())}
        return {"size": torch.tensor(self.slot.shape), "row": row, "stream": stream, "pictures": images}

    @classmethod
    def from_dict(cls, saved: dict[str, Any], keys: Sequence[NestedKey], device: torch.device | str) -> "LooseImages":
        """The inverse of :meth:`to_dict`; ``keys`` in their first order."""
        loose = cls(*saved["size"].tolist(), device=device)
        images = {key: saved["pictures"][str(i)].to(device) for i, key in enumerate(keys)}
        loose.put(saved["row"].to(device), saved["stream"].to(device), images)
        return loose

    def _grow(self, count: int, like: Images) -> None:
        missing = count - len(self.free)
        if missing <= 0:
            return
        have = len(next(iter(self.table.values()))) if self.table else 0
        more = max(missing, have, 16)
        for key, image in like.items():
            fresh = image.new_empty(more, *image.shape[1:], device=self.slot.device)
            self.table[key] = torch.cat([self.table[key], fresh]) if key in self.table else fresh
        self.free.extend(range(have, have + more))


class _ImagesOnce(TensorStorage):
    """What the two storages below share: ``("next", image)`` is rebuilt when it is read.

    The image after step t is, within an episode, the image of step t+1, which stands in the next row. Where that
    is not so (the last image of an episode, the newest row of all, the seam of the ring) it is kept aside as a
    *loose* image. Whether it is so is found out by comparing the tensors when they are written, not by trusting
    flags, so what is read is what was written, whatever that was.
    """

    once: list[NestedKey]
    loose: LooseImages | None

    def _prepare(self, once: Sequence[NestedKey]) -> None:
        if self.ndim not in (1, 2):
            raise ValueError(f"ndim must be 1 (rows) or 2 (rows, streams); got {self.ndim}.")
        self.once = [unravel_key(key) for key in once]
        self.loose = None

    def set(self, cursor: Any, data: TensorDictBase, *, set_cursor: bool = True) -> None:
        """Write a run of rows, as TorchRL's writers do, without the images that the next row will hold."""
        rows = torch.as_tensor(cursor, device=self.device)
        if rows.ndim == 0:
            rows, data = rows[None], cast(TensorDictBase, data.unsqueeze(0))
        capacity = self._max_size_along_dim0(batched_data=data)
        if not (rows[1:] == (rows[:-1] + 1) % capacity).all():
            raise ValueError("A storage that keeps images once is written in runs of rows, as extend and add do.")
        if len(rows) > capacity:  # only the last lap survives
            rows, data = rows[-capacity:], cast(TensorDictBase, data[-capacity:])
        streams = 1 if self.ndim == 1 else data.shape[1]
        now = {key: self._by_place(data.get(key), streams) for key in self.once}
        following = {key: self._by_place(data.get(under_next(key)), streams) for key in self.once}
        if self.loose is None:
            self.loose = LooseImages(capacity, streams, cast(torch.device, self.device))
        before = int(rows[0] - 1) % capacity
        self._keep_what_is_overwritten(before, int(rows[0]))
        every_stream = torch.arange(streams, device=self.device)
        self.loose.drop(rows[:, None], every_stream)
        super().set(cast(Any, rows), data.exclude(*(under_next(key) for key in self.once)), set_cursor=set_cursor)
        shown = torch.zeros(len(rows), streams, dtype=torch.bool, device=self.device)
        shown[:-1] = _equal({k: v[:-1] for k, v in following.items()}, {k: v[1:] for k, v in now.items()}, 2)
        time, stream = torch.nonzero(~shown, as_tuple=True)
        self.loose.put(rows[time], stream, {key: image[time, stream] for key, image in following.items()})
        self._drop_if_shown(before, {key: image[0] for key, image in now.items()})

    def get(self, index: Any) -> Any:
        """Read rows, every transition complete."""
        out = super().get(index).copy()
        if self.loose is None:
            raise RuntimeError("This storage was filled without its loose images; load it with load_replay.")
        row, stream = self._places(index)
        after = (row + 1) % len(self.loose.slot)
        for key in self.once:
            image = self._column(key)[after, stream]
            image = image if after.ndim else image.clone()  # a single place is a view of the storage
            out.set(under_next(key), self.loose.lay_over(key, image, row, stream))
        return out

    def dumps(self, path: str | Path) -> None:
        """Refused: TorchRL's format has no place for the loose images. Save the buffer with ``save_replay``."""
        raise NotImplementedError("This storage is saved with its buffer: data.save_replay(replay, path).")

    def loads(self, path: str | Path) -> None:
        """Refused: TorchRL's format may hold code. Load the buffer with ``load_replay``."""
        raise NotImplementedError("This storage is loaded with its buffer: data.load_replay(replay, path).")

    def state_dict(self) -> dict[str, Any]:
        """The storage's own state and the loose images."""
        return {**super().state_dict(), "loose": None if self.loose is None else self.loose.to_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        super().load_state_dict(state_dict)
        self._restore(state_dict["loose"])

    def _restore(self, saved: dict[str, Any] | None) -> None:
        device = cast(torch.device, self.device)
        self.loose = None if saved is None else LooseImages.from_dict(saved, self.once, device)

    def _empty(self) -> None:
        super()._empty()
        self.loose = None

    def _places(self, index: Any) -> tuple[Tensor, Tensor]:
        """Row and stream of everything that ``index`` addresses."""
        if isinstance(index, tuple) and len(index) == 2 and all(isinstance(part, Tensor) for part in index):
            return index
        if self.ndim == 1 and isinstance(index, (int, Tensor)) and getattr(index, "dtype", None) != torch.bool:
            row = torch.as_tensor(index, device=self.device)
            row = torch.where(row < 0, row + len(self), row)
            return row, torch.zeros_like(row)
        shape = cast(torch.Size, self.shape)
        streams = shape[1:].numel()
        place = torch.arange(shape.numel(), device=self.device).reshape(shape)[index]
        return place // streams, place % streams

    def _column(self, key: NestedKey) -> Tensor:
        """The stored images of one key, ``[rows, streams, ...]``."""
        leaf = cast(TensorDictBase, self._storage).get(key)
        return leaf if self.ndim == 2 else leaf.unsqueeze(1)

    def _by_place(self, image: Tensor, streams: int) -> Tensor:
        return image.reshape(len(image), streams, *image.shape[self.ndim :]).to(cast(torch.device, self.device))

    def _keep_what_is_overwritten(self, before: int, row: int) -> None:
        """The row before the run may be reading its next image from the row that goes."""
        written = self._len_along_dim0 or 0
        if self.loose is None or not self.initialized or row >= written or before >= written:
            return
        stream = torch.nonzero(self.loose.slot[before] < 0)[:, 0]
        rows = torch.full_like(stream, before)
        self.loose.put(rows, stream, {key: self._column(key)[row, stream] for key in self.once})

    def _drop_if_shown(self, before: int, first: Images) -> None:
        """The loose image of the row before the run need not be kept if the run begins with the same."""
        loose = cast(LooseImages, self.loose)
        stream = torch.nonzero(loose.slot[before] >= 0)[:, 0]
        slot = loose.slot[before, stream]
        same = _equal({k: v[slot] for k, v in loose.table.items()}, {k: v[stream] for k, v in first.items()}, 1)
        stream = stream[same]
        loose.drop(torch.full_like(stream, before), stream)


class ImagesOnceStorage(_ImagesOnce, LazyTensorStorage):
    """``LazyTensorStorage`` for transitions whose images are kept once instead of twice.

    Args:
        max_size: number of transitions.
        once: the keys of the images; each is rebuilt under ``next``.
        ndim: 1 for one stream, 2 for ``[rows, streams]``.
        device: where the storage lives.
    """

    def __init__(
        self, max_size: int, *, once: Sequence[NestedKey], ndim: int = 1, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(max_size, ndim=ndim, device=device)
        self._prepare(once)


class ImagesOnceMemmapStorage(_ImagesOnce, WorkingMemmapStorage):
    """``LazyMemmapStorage`` for transitions whose images are kept once instead of twice.

    The loose images, one for each episode's end, stay in memory.

    Args:
        max_size: number of transitions.
        once: the keys of the images; each is rebuilt under ``next``.
        ndim: 1 for one stream, 2 for ``[rows, streams]``.
        directory: where the folder of the files is made, see :class:`~wmcomponents.data.memmap.WorkingMemmapStorage`.
    """

    def __init__(
        self, max_size: int, *, once: Sequence[NestedKey], ndim: int = 1, directory: str | Path | None = None
    ) -> None:
        super().__init__(max_size, ndim=ndim, directory=directory)
        self._prepare(once)


def _equal(left: Images, right: Images, batch_dims: int) -> Tensor:
    """Which places show the same in every key: bool, the shape of the first ``batch_dims`` dims."""
    agree = [(left[key] == right[key]).flatten(batch_dims).all(-1) for key in left]
    return torch.stack(agree).all(0)
