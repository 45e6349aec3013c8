"""Folders from outside, read strictly, and folders replaced in one step: shared by all that is kept on disk."""

import contextlib
import ctypes
import errno
import json
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO

try:
    import fcntl
except ImportError:  # Windows: folders being written are then not told from those left by a kill
    fcntl = None

LARGEST_JSON, MOST_CONTAINERS = 2**24, 2**17
"""Bytes of a JSON file, and lists and mappings in it: what it takes in memory is bounded by both."""

_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_READ = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_AT = os.open in os.supports_dir_fd


class StrictFolder:
    """A folder opened once, whose files are read as data: regular ones alone, by name, and no link is followed.

    Names are looked up in the folder that was opened, whatever its path leads to later: who replaces the folder as a
    whole (:func:`replacing`) is never seen halfway. The path itself may be a link. A context manager.

    Args:
        path: the folder.
        refusal: the exception that everything odd is refused with.
        what: what the folder should be, for the errors.
        links_into: links to files below this folder are followed all the same; none are if not given.
        opened: descriptor of the folder, where it is open already; it is closed with this.

    Raises:
        refusal: if there is no folder, or it cannot be read.
    """

    def __init__(
        self,
        path: str | Path,
        refusal: type[Exception],
        what: str,
        *,
        links_into: str | Path | None = None,
        opened: int | None = None,
    ) -> None:
        self.path, self.refusal, self.what = Path(path), refusal, what
        self._inside = None if links_into is None else Path(links_into).resolve()
        self._fd = opened
        try:
            if _AT and opened is None:
                self._fd = os.open(self.path, _READ | os.O_DIRECTORY)
            elif not _AT and not self.path.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, "is no folder")
        except (OSError, ValueError) as error:  # ValueError: a path with a NUL
            raise refusal(f"{self.path} is no folder that can be read ({_reason(error)}): it is not {what}.") from error

    def __enter__(self) -> "StrictFolder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folder."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def names(self) -> set[str]:
        """Names of all that is in the folder."""
        return set(os.listdir(self.path if self._fd is None else self._fd))

    def is_current(self) -> bool:
        """Whether the path still leads to the folder that was opened."""
        if self._fd is None:
            return True
        with contextlib.suppress(OSError):
            return os.path.samestat(os.fstat(self._fd), os.stat(self.path))
        return False

    def stamp(self, name: str) -> tuple[int, ...] | None:
        """What tells whether a file was replaced or written since; ``None`` if it is not there."""
        with contextlib.suppress(OSError):
            target, at = (name, self._fd) if self._fd is not None else (str(self.path / name), None)
            found = os.stat(target, dir_fd=at, follow_symlinks=False)
            return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
        return None

    def folder(self, name: str) -> "StrictFolder":
        """A folder inside this one.

        Raises:
            refusal: if it is no folder, or a link to one.
        """
        opened: int | None = self._open(name, os.O_DIRECTORY if _AT else 0, stat.S_ISDIR, "folder")
        if not _AT:
            os.close(opened)
            opened = None
        return StrictFolder(self.path / name, self.refusal, self.what, links_into=self._inside, opened=opened)

    def open(self, name: str, *, most: int | None = None, exactly: int | None = None) -> BinaryIO:
        """A file of the folder, for reading.

        Args:
            name: of the file: one that stands in the folder itself.
            most: bytes that it may have.
            exactly: bytes that it must have.

        Raises:
            refusal: if it is missing, a link, a device, a pipe or a folder, cannot be read, or has another size.
        """
        file = os.fdopen(self._open(name, 0, stat.S_ISREG, "file"), "rb")
        size = os.fstat(file.fileno()).st_size
        if (most is not None and size > most) or (exactly is not None and size != exactly):
            file.close()
            wanted = f"exactly {exactly:,}" if exactly is not None else f"at most {most:,}"
            raise self.refusal(f"{self.path / name} has {size:,} bytes; that of {self.what} has {wanted}.")
        return file

    def read(self, name: str, *, most: int) -> bytes:
        """The content of a small file.

        Raises:
            refusal: as :meth:`open`.
        """
        with self.open(name, most=most) as file:
            try:
                return file.read(most)
            except OSError as error:
                raise self.refusal(f"{self.path / name} cannot be read ({_reason(error)}).") from error

    def json(self, name: str, *, most: int = LARGEST_JSON) -> Any:
        """The content of a JSON file.

        Raises:
            refusal: as :meth:`open`; if it is not JSON, or is nested without end.
        """
        return self.parsed(self.read(name, most=most), name)

    def parsed(self, data: bytes, name: str) -> Any:
        """JSON that was read from a file of the folder.

        Raises:
            refusal: if it is not JSON, or is nested without end.
        """
        try:
            return parse_json(data)
        except (ValueError, RecursionError) as error:
            raise self.refusal(f"{self.path / name} is not valid JSON; write it again ({error}).") from error

    def _target(self, file: Path) -> tuple[str, int | None]:
        """What to open for a file of the folder, and in which folder; a link's own target where it may be followed."""
        if self._inside is not None and file.is_symlink():
            target = os.path.realpath(file)
            if not Path(target).is_relative_to(self._inside):
                raise self.refusal(f"{file} is a link out of {self._inside}, and is not followed.")
            return target, self._fd
        return (file.name, self._fd) if self._fd is not None else (str(file), None)

    def _open(self, name: str, flags: int, is_kind: Any, kind: str) -> int:
        file = self.path / name
        if name in ("", ".", "..") or Path(name).name != name or "\0" in name:
            raise self.refusal(f"{name!r} is no name of a file inside {self.path}.")
        try:
            # Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
            flags |= _READ | _NOFOLLOW | getattr(os, "O_NONBLOCK", 0)
            target, at = self._target(file)
            # Looked at before it is opened: that alone is too much for some devices.
            mode = os.stat(target, dir_fd=at, follow_symlinks=False).st_mode
            if stat.S_ISLNK(mode):
                raise OSError(errno.ELOOP, "is a link")
            found = os.open(target, flags, dir_fd=at) if is_kind(mode) else -1
        except FileNotFoundError as error:
            raise self.refusal(
                f"{self.path} holds no {kind} {name}: it is not {self.what}, or is incomplete."
            ) from error
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EMLINK):
                raise self.refusal(
                    f"{file} is a link, which is not followed: put the {kind} itself in its place."
                ) from error
            raise self.refusal(f"{file} is no {kind} that can be read ({_reason(error)}).") from error
        if found >= 0 and is_kind(os.fstat(found).st_mode):
            return found
        if found >= 0:
            os.close(found)
        raise self.refusal(f"{self.path} holds no {kind} {name}: what has that name is of another kind.")


def parse_json(data: bytes) -> Any:
    """JSON from outside: no NaN or infinity by name, no entry twice, no more lists and mappings than memory can bear.

    Raises:
        ValueError: if it is not JSON, or not such.
        RecursionError: if it is nested without end.
    """
    if data.count(b"[") + data.count(b"{") > MOST_CONTAINERS:
        raise ValueError("it holds far too many lists and mappings")
    return json.loads(data, parse_constant=_refuse_constant, object_pairs_hook=_unique)


@contextlib.contextmanager
def replacing(path: str | Path, names: Collection[str], what: str) -> Iterator[Path]:
    """A fresh folder beside a path, which takes its place in one step when the block ends well.

    A reader of the path sees the old folder or the new one, whole. Two writers do not meet: each fills a folder of its
    own, and the last to end stays. What writers that were killed have left is removed. Files are flushed to the disk
    before they are seen. The new folder has the mode of the old one, and its files those of the folder.

    Args:
        path: the folder to write or to replace; where it is a link, what it points to.
        names: of the files that such a folder may hold; the first is the one that tells what it is.
        what: what it holds, for the errors, such as ``"saved model"``.

    Yields:
        The fresh folder.

    Raises:
        FileExistsError: if the path exists and is no such folder, or holds other files, which would be lost.
    """
    path = Path(path).resolve()
    check_replaceable(path, names, what)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path)
    fresh, lock = _locked_folder(path)
    try:
        yield fresh
        mode = _settle(fresh, path)
        check_replaceable(path, names, what)
        os.chmod(fresh, mode)
        _put(fresh, path)
        flush_names(path.parent)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def check_replaceable(path: Path, names: Collection[str], what: str) -> None:
    """Refuse to replace what is not such a folder: see :func:`replacing`."""
    if not os.path.lexists(path) or (path.is_dir() and not any(path.iterdir())):
        return
    if not (path / next(iter(names))).is_file():
        raise FileExistsError(f"{path} exists and holds no {what}: choose another folder, or empty this one.")
    others = sorted(file.name for file in path.iterdir() if file.name not in names)
    if others:
        raise FileExistsError(
            f"{path} holds more than a {what}, which would be lost ({', '.join(others)}): move it away."
        )


def remove_abandoned(path: Path) -> None:
    """Remove unfinished folders that killed writers of ``path`` have left beside it; those of living ones stay."""
    if fcntl is None:
        return
    # What stood at the path before is the only copy for as long as nothing stands there: see _put.
    kinds = ("unfinished", "replaced") if path.exists() else ("unfinished",)
    for entry in (e for kind in kinds for e in path.parent.glob(f".{_escaped(path.name)}.{kind}-*")):
        with contextlib.suppress(OSError):
            found = os.open(entry, _READ | os.O_DIRECTORY | _NOFOLLOW)
            try:
                fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(entry, ignore_errors=True)
            finally:
                os.close(found)


def _locked_folder(path: Path) -> tuple[Path, int | None]:
    """A fresh folder beside a path, and the lock on it, which ends with the process that holds it."""
    while True:
        fresh = path.parent / f".{path.name}.unfinished-{secrets.token_hex(6)}"
        fresh.mkdir()
        if fcntl is None:
            return fresh, None
        lock = os.open(fresh, _READ | os.O_DIRECTORY)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), os.stat(fresh)):
                return fresh, lock
        os.close(lock)  # another writer took it for abandoned before it was locked


def _settle(fresh: Path, path: Path) -> int:
    """Flush all files, give them the mode of their folder, and return that: the old folder's, or a new one's."""
    mode = stat.S_IMODE(os.stat(path if path.is_dir() else fresh).st_mode)
    for parent, _, files in os.walk(fresh):
        for name in files:
            file = os.path.join(parent, name)
            os.chmod(file, mode & 0o666)
            with open(file, "rb") as written:
                os.fsync(written.fileno())
        flush_names(Path(parent))
    return mode


def flush_names(folder: Path) -> None:
    """Flush the names in a folder to the disk, where the system can."""
    if not _AT:
        return
    found = os.open(folder, _READ | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(found)
    finally:
        os.close(found)


def _put(fresh: Path, path: Path) -> None:
    """Put a folder in the place of another; what stood there is then at ``fresh``."""
    if not path.exists():
        with contextlib.suppress(OSError):  # another writer was there first
            os.rename(fresh, path)
            return
    if not _exchange(fresh, path):
        old = fresh.with_name(fresh.name.replace(".unfinished-", ".replaced-"))
        os.rename(path, old)
        os.rename(fresh, path)
        os.rename(old, fresh)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two paths in one step, where the system can. Whether it was done."""
    name, at, flag = {"linux": ("renameat2", -100, 2), "darwin": ("renameatx_np", -2, 2)}.get(sys.platform, ("", 0, 0))
    rename = getattr(ctypes.CDLL(None), name, None) if name else None
    return rename is not None and rename(at, os.fsencode(one), at, os.fsencode(other), ctypes.c_uint(flag)) == 0


def _escaped(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an entry is there twice")
    return found


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
