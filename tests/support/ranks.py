"""Work done by several processes of one process group, forked from a parent that has imported everything."""

import contextlib
import os
import pickle
import socket
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
from torchrl.data import LazyTensorStorage, ReplayBuffer

PREPARING = 32
"""Batches that a trainer reads before its first update."""


class Outcome(NamedTuple):
    """What became of one process's work.

    Attributes:
        value: what it gave.
        error: the class of the error that ended it.
        said: what the error says.
    """

    value: Any = None
    error: str | None = None
    said: str = ""


def run_ranks(work: Callable[[int], Any], count: int = 2) -> list[Any]:
    """What ``work(rank)`` gives in each process, by rank.

    Args:
        work: done in each process; what it gives is pickled.
        count: number of processes.
    """
    found = try_ranks(work, count)
    failed = [one.said for one in found if one.error]
    assert not failed, "\n".join(failed)
    return [one.value for one in found]


def try_ranks(work: Callable[[int], Any], count: int = 2) -> list[Outcome]:
    """What becomes of ``work(rank)`` in each process, by rank.

    Args:
        work: done in each process; what it gives is pickled.
        count: number of processes.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch has threads, and the children do without them
        files = [Path(folder) / str(rank) for rank in range(count)]
        children = [_forked(work, rank, count, port, file) for rank, file in enumerate(files)]
        for child in children:
            os.waitpid(child, 0)
        return [pickle.loads(file.read_bytes()) if file.exists() else Outcome(error="killed") for file in files]


def _forked(work: Callable[[int], Any], rank: int, count: int, port: int, file: Path) -> int:
    child = os.fork()
    if child:
        return child
    try:
        torch.set_num_threads(1)  # the other threads of the pool are not there after a fork
        os.environ.update(
            MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(count), LOCAL_RANK=str(rank)
        )
        try:
            found = Outcome(work(rank))
        except BaseException as error:
            found = Outcome(None, type(error).__name__, f"{error}\n{traceback.format_exc()}")
        file.write_bytes(pickle.dumps(found))
    finally:
        os._exit(0)


class GivenBatches(ReplayBuffer):
    """A replay buffer that gives batch after batch of a function of their number, from a first one on."""

    def __init__(self, batch: Callable[[int], Any], first: int = 0) -> None:
        super().__init__(storage=LazyTensorStorage(1))
        self._batch, self._number = batch, first

    def sample(self, *arguments: Any, **options: Any) -> Any:
        self._number += 1
        return self._batch(self._number - 1)


@contextlib.contextmanager
def even_draws():
    """Noise that is the same for every row, so that it does not matter which process draws it."""

    def full(value):
        return lambda *shape, generator=None, dtype=None, device=None: torch.full(
            shape[0] if not isinstance(shape[0], int) else shape, value, dtype=dtype, device=device
        )

    with mock.patch.multiple(torch, rand=full(0.37), randn=full(0.5)):
        yield
