"""Uniform sampling of sequences from a ring buffer, by index arithmetic alone."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchrl.data import TensorStorage
from torchrl.data.replay_buffers import Storage
from torchrl.data.replay_buffers.samplers import Sampler


class EmptyReplayError(RuntimeError):
    """The buffer holds nothing yet."""


class ReplayTooShortError(RuntimeError):
    """The buffer holds fewer consecutive steps than one sequence has."""


class SequenceSampler(Sampler):
    """Draws ``[B, T]`` sequences, every start equally likely, from a storage of one or several streams.

    A stream is what one environment wrote, step after step, episode after episode: the storage ``[capacity]`` is one
    stream, ``[rows, N]`` (``ndim=2``) is N of them. A sequence is T consecutive steps of one stream. It may run over
    the end of an episode into the next, as Dreamer's do: nothing in it is altered, ``is_init`` and the done flags are
    as they were written. It never runs over the seam of the ring, where the newest step stands before the oldest.

    With R rows written there are R - T + 1 starts in each stream, counted from the oldest row. A draw is one random
    number for each sequence, so the cost does not depend on the size of the buffer.

    The index it hands to the storage has two dimensions, so TorchRL's buffers return a TensorDict of batch ``[B, T]``
    without a reshape. The ``batch_size`` of the buffer therefore counts sequences, not steps.

    Reproducibility: draws come from the generator given to the buffer (``ReplayBuffer(generator=...)`` or ``set_rng``).
    The position of the seam is learnt from the writes that pass through the buffer, and saved with it.

    Args:
        sequence_length: T, at least 1.

    Raises:
        ValueError: if ``sequence_length`` is below 1.
    """

    def __init__(self, sequence_length: int) -> None:
        if sequence_length < 1:
            raise ValueError(f"sequence_length must be at least 1; got {sequence_length}.")
        self.sequence_length = int(sequence_length)
        self._cursor = 0  # the row written next

    def sample(self, storage: Storage, batch_size: int) -> tuple[Tensor | tuple[Tensor, ...], dict]:
        """Indices of ``batch_size`` sequences.

        Args:
            storage: a TorchRL tensor storage of one or two dimensions.
            batch_size: B, the number of sequences.

        Returns:
            Index ``[B, T]`` of rows, or for ``ndim=2`` the pair (rows, streams), each ``[B, T]``; and an empty info.

        Raises:
            EmptyReplayError, ReplayTooShortError: if there is nothing, or not one whole sequence, to draw from.
        """
        rows, *streams = self._check_written(storage)
        starts = rows - self.sequence_length + 1
        generator = self._rng
        device = "cpu" if generator is None else generator.device
        draw = torch.randint(starts * math.prod(streams), (batch_size,), generator=generator, device=device)
        oldest = self._cursor % rows  # 0 until the ring is full, then the row that will be overwritten next
        offset = torch.arange(self.sequence_length, device=device)
        row = (oldest + (draw % starts)[:, None] + offset) % rows  # (B, T)
        if not streams:
            return row, {}
        return (row, (draw // starts)[:, None].expand_as(row)), {}

    def _check_written(self, storage: Storage) -> tuple[int, ...]:
        """The written part of the storage, in which there is a sequence at least."""
        rows, *streams = _written(storage)
        if rows == 0:
            raise EmptyReplayError("The replay buffer is empty; collect real steps into it before sampling.")
        if rows < self.sequence_length:
            each = f" in each of {streams[0]} streams" if streams else ""
            raise ReplayTooShortError(
                f"The replay buffer holds {rows} consecutive steps{each} and a sequence needs {self.sequence_length}; "
                f"collect more steps first, or use a shorter sequence_length."
            )
        return (rows, *streams)

    def can_sample(self, storage: Storage, batch_size: int) -> bool:
        """Whether the buffer holds at least one whole sequence."""
        return _written(storage)[0] >= self.sequence_length

    def add(self, index: int | Tensor) -> None:
        """Told by the buffer that one step was written."""
        self._cursor = _last_row(index) + 1

    def extend(self, index: Tensor) -> None:
        """Told by the buffer that steps were written."""
        self._cursor = _last_row(index) + 1

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs: the cursor. The generator is saved by the buffer."""
        return {"cursor": self._cursor, "sequence_length": self.sequence_length}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the cursor; the sequence length stays that of this sampler."""
        self._cursor = int(state_dict["cursor"])

    def dumps(self, path: str | Path) -> None:
        """Write :meth:`state_dict` as JSON into the folder ``path``."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "sequence_sampler.json").write_text(json.dumps(self.state_dict(), default=Tensor.tolist))

    def loads(self, path: str | Path) -> None:
        """Read what :meth:`dumps` wrote."""
        self.load_state_dict(json.loads((Path(path) / "sequence_sampler.json").read_text()))

    def _empty(self) -> None:
        self._cursor = 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}(sequence_length={self.sequence_length})"


def _written(storage: Storage) -> tuple[int, ...]:
    """The written part of the storage: (rows,) or (rows, streams)."""
    if not isinstance(storage, TensorStorage):
        raise TypeError(
            f"SequenceSampler reads tensor storages (LazyTensorStorage, ...); got {type(storage).__name__}."
        )
    if len(storage) == 0:
        return (0,)
    shape = tuple(storage.shape or ())
    if len(shape) > 2:
        raise ValueError(f"SequenceSampler reads storages of shape [rows] or [rows, streams]; got {shape}.")
    return shape


def _last_row(index: int | Tensor) -> int:
    """The row of the last entry of an index as TorchRL's writers report it: a row, rows, or coordinates [..., ndim]."""
    index = torch.as_tensor(index)
    return int(index.reshape(-1)[-1] if index.ndim < 2 else index.reshape(-1, index.shape[-1])[-1, 0])
