"""Files that a reader finds whole: the old content or the new, whenever the writer is killed or the disk is full."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

SPARE_BYTES = 2**20
"""Space without which no work is begun that ends in a file."""


class NoPlaceError(OSError):
    """What is to be written cannot be written there.

    Args:
        message: why, and what to do.
        errno: the system's number for it.
    """

    def __init__(self, message: str, errno: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno


@contextlib.contextmanager
def written_whole(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write into, which takes the place of ``path`` at the end; after an error nothing is left behind.

    Where the system can, the file has no name until it is whole, so that a killed process leaves nothing behind either;
    elsewhere a kill leaves one file ``.NAME.unfinished``, which the next write replaces.

    Args:
        path: the file; its folder must exist. The mode is that of any new file there.
    """
    path = Path(path)
    aside = unfinished(path)
    nameless = _nameless(path.parent)
    with contextlib.ExitStack() as stack:
        stack.callback(aside.unlink, missing_ok=True)
        with os.fdopen(nameless, "wb") if nameless is not None else open(aside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if nameless is not None:
                aside.unlink(missing_ok=True)
                # With a descriptor given, Python calls linkat, which follows the link in /proc; link would not.
                os.link(f"/proc/self/fd/{file.fileno()}", aside, src_dir_fd=file.fileno(), follow_symlinks=True)
        os.replace(aside, path)


def write_whole(path: str | Path, data: bytes | str) -> None:
    """Give a file this content, see :func:`written_whole`."""
    with written_whole(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


def unfinished(path: Path) -> Path:
    """Where a file is kept while it is not whole: one name for all writes of it."""
    return path.with_name(f".{path.name}.unfinished")


def check_place(folder: str | Path, *, space: int = SPARE_BYTES) -> Path:
    """Make sure, before any work, that files can be written into a folder; it is made if it does not exist.

    Args:
        folder: the folder.
        space: bytes that must be free there.

    Raises:
        NoPlaceError: naming what stands in the way.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise NoPlaceError(
            f"nothing can be written to {folder} ({error.strerror}): choose another place.", error.errno
        ) from error
    if free < space:
        raise NoPlaceError(
            f"{folder} has {free / 1e6:.1f} MB of space left, and {space / 1e6:.1f} MB are needed: make room, or "
            f"choose another place.",
            errno.ENOSPC,
        )
    return folder


def _nameless(folder: Path) -> int | None:
    """A new file without a name, where the system can make one and name it later."""
    flag = getattr(os, "O_TMPFILE", None)
    if flag is None or not os.path.isdir("/proc/self/fd"):
        return None
    try:
        return os.open(folder, flag | os.O_WRONLY | os.O_CLOEXEC, 0o666)
    except OSError:  # the file system has no such files, or the folder is not writable, which the other way will say
        return None
