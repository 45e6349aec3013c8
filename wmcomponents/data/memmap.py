"""Buffers in files: room for them is taken before the first write, and nothing of them outlives their process."""

import errno
import os
import shutil
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from tensordict import TensorDictBase
from torchrl.data import LazyMemmapStorage

try:
    import fcntl
except ImportError:  # Windows: working folders that a kill left are then not told from those in use
    fcntl = None

PREFIX = ".wmc-working-"


class ReplayTooLargeError(RuntimeError):
    """The buffer would not fit where it was asked to live."""


class WorkingMemmapStorage(LazyMemmapStorage):
    """``LazyMemmapStorage`` whose files are allocated when they are made, in a folder that goes with the storage.

    TorchRL's files are sparse: on a full disk the write that finds no room kills the process with SIGBUS. The files are
    the storage's alone, and are overwritten while it is used; :func:`~wmcomponents.data.save_replay` copies them.

    Args:
        max_size: number of transitions.
        ndim: 1 for one stream, 2 for ``[rows, streams]``.
        directory: where the folder of the files is made; ``None`` is the system's place for temporary files.

    Raises:
        ReplayTooLargeError: at the first write, if the disk has no room.
    """

    def __init__(self, max_size: int, *, ndim: int = 1, directory: str | Path | None = None) -> None:
        self.folder, lock = _working_folder(Path(directory or tempfile.gettempdir()))
        super().__init__(max_size, ndim=ndim, scratch_dir=self.folder / "storage")
        weakref.finalize(self, _remove, self.folder, lock, os.getpid())

    def _init(self, data: Any) -> None:
        super()._init(data)
        try:
            for leaf in cast(TensorDictBase, self._storage).values(True, True):
                _allocate(cast(Any, leaf).filename, leaf.untyped_storage().nbytes())
        except OSError as error:
            self.initialized = False
            self._storage = None
            shutil.rmtree(self.folder / "storage", ignore_errors=True)
            raise ReplayTooLargeError(
                f"The disk has no room for the buffer's files in {self.folder.parent} ({error.strerror}): free some, "
                f"or build a smaller one."
            ) from error


def _working_folder(parent: Path) -> tuple[Path, int | None]:
    """A fresh folder, and the lock on it. Those of processes that were killed are removed."""
    parent.mkdir(parents=True, exist_ok=True)
    for other in parent.glob(f"{PREFIX}*"):
        if not other.is_symlink() and other.is_dir():
            with suppress(OSError):  # another user's, or one that is in use
                lock = _lock(other)
                if lock is not None:
                    shutil.rmtree(other, ignore_errors=True)
                    os.close(lock)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    return folder, _lock(folder)


def _lock(folder: Path) -> int | None:
    """Lock a folder until its descriptor is closed, by the end of the process at the latest.

    Raises:
        OSError: if another holds it.
    """
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _remove(folder: Path, lock: int | None, process: int) -> None:
    if os.getpid() == process:  # a forked child must not take its parent's files away
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _allocate(file: str, size: int) -> None:
    allocate = getattr(os, "posix_fallocate", None)
    if allocate is None or not size:
        return
    descriptor = os.open(file, os.O_RDWR)
    try:
        allocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system without allocation
            raise
    finally:
        os.close(descriptor)
