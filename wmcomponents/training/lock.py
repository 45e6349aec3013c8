"""One writer to a folder at a time."""

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

try:
    import fcntl
except ImportError:  # not a POSIX system: nothing is locked there
    fcntl = None


class FolderInUseError(RuntimeError):
    """Another process, or another thread, writes to the folder; the message names it."""


@dataclass
class _Held:
    descriptor: int
    thread: int
    depth: int = 1


_held: dict[tuple[int, int], _Held] = {}


@contextlib.contextmanager
def one_writer(folder: str | Path) -> Iterator[None]:
    """Keep every other process and thread from writing to a folder; the same thread may enter again.

    The lock lies on the folder itself and ends with the process, however it ends: nothing is left behind.

    Args:
        folder: it is made if it does not exist.

    Raises:
        FolderInUseError: if another writes to it now.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    found = folder.stat()
    place = (found.st_dev, found.st_ino)
    mine = _held.get(place)
    if mine is not None:
        if mine.thread != threading.get_ident():
            raise FolderInUseError(f"another thread of this process writes to {folder}: wait for it.")
        mine.depth += 1
        try:
            yield
        finally:
            mine.depth -= 1
        return
    descriptor = _locked(folder, place)
    if descriptor is None:
        yield
        return
    _held[place] = _Held(descriptor, threading.get_ident())
    try:
        yield
    finally:
        if _held.pop(place, None) is not None:  # a forked child has let go of it already
            os.close(descriptor)


def _locked(folder: Path, place: tuple[int, int]) -> int | None:
    """The descriptor that holds the lock; ``None`` where the system has no such locks."""
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise FolderInUseError(
            f"{_holder(place)} writes to {folder}: wait until it has ended, or choose another folder."
        ) from error
    except OSError:  # a file system without locks
        os.close(descriptor)
        return None
    return descriptor


def _holder(place: tuple[int, int]) -> str:
    """The process that holds the lock, as far as the system says."""
    device, inode = place
    name = f"{os.major(device):02x}:{os.minor(device):02x}:{inode}"
    with contextlib.suppress(OSError, IndexError, ValueError):
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()
            if words[1] == "FLOCK" and words[5] == name:
                command = Path(f"/proc/{words[4]}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                return f"process {words[4]} ({command.strip()[:120]})"
    return "another process"


def _let_go() -> None:
    """In a forked child: the lock is the parent's, and must not outlive it there."""
    for held in _held.values():
        os.close(held.descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
