"""What a forger does to files: each forgery is one function of a random generator and a folder."""

import contextlib
import hashlib
import os
import random
import resource
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

ODD_VALUES = (
    *(0, 1, -1, 2, 2**31, 2**63, 10**12, 10**30, 0.5, -0.5, 1e300, float("nan"), float("inf")),
    *("", "text", "0", None, True, False, [], [1], [[[]]], {}, {"a": 1}, "\ud800", "a\0b", "../../etc", "ß" * 300),
)


class OvertimeError(BaseException):
    """A reader took too long; no ``except Exception`` takes this for a refusal."""


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Ends what takes longer."""

    def end(signum: int, frame: object) -> None:
        raise OvertimeError(f"took longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    running = signal.setitimer(signal.ITIMER_REAL, seconds)  # the limit of the test itself, which goes on afterwards
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *running)


def fingerprint(folder: Path) -> str:
    """What is in a folder, by name, kind, size, mode and content (of small regular files)."""
    seen = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        found = file.lstat()
        seen.update(repr((file.relative_to(folder).as_posix(), found.st_mode, found.st_size)).encode())
        if file.is_file() and not file.is_symlink() and found.st_size < 2**22:
            seen.update(file.read_bytes())
    return seen.hexdigest()


def peak() -> int:
    """Most memory this process ever held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def flip(draw: random.Random, file: Path) -> None:
    data = bytearray(file.read_bytes())
    for _ in range(draw.choice((1, 1, 1, 2, 30))):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    file.write_bytes(data)


def cut(draw: random.Random, file: Path) -> None:
    os.truncate(file, draw.randrange(file.stat().st_size))


def lengthen(draw: random.Random, file: Path) -> None:
    with open(file, "ab") as end:
        end.write(draw.choice((b"\n", b"\0" * 100, b"{}", os.urandom(8), file.read_bytes())))


def blank(draw: random.Random, file: Path) -> None:
    data = bytearray(file.read_bytes())
    begin = draw.randrange(len(data))
    end = min(len(data), begin + draw.choice((1, 8, 100, 10**6)))
    data[begin:end] = bytes([draw.choice((0, 255))]) * (end - begin)
    file.write_bytes(data)


def scramble(draw: random.Random, file: Path) -> None:
    data = file.read_bytes()
    one, other = sorted(draw.randrange(len(data)) for _ in range(2))
    file.write_bytes(data[:one] + data[other:] + data[one:other])


def stretch(draw: random.Random, file: Path) -> None:
    """A sparse file: as large as one likes, and nothing on the disk."""
    os.truncate(file, draw.choice((2**20, 2**33, 2**40)))


def remove(draw: random.Random, file: Path) -> None:
    file.unlink()


def be_folder(draw: random.Random, file: Path) -> None:
    file.unlink()
    file.mkdir()
    if draw.random() < 0.5:
        (file / file.name).write_bytes(b"x")


def be_pipe(draw: random.Random, file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def be_socket(draw: random.Random, file: Path) -> None:
    file.unlink()
    here = os.getcwd()
    os.chdir(file.parent)  # addresses of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(file.name)
    finally:
        os.chdir(here)


def be_link(draw: random.Random, file: Path) -> None:
    """A link to the very same file outside, to a device, to nowhere, or to itself."""
    outside = file.parent.parent / "outside"
    outside.mkdir(exist_ok=True)
    shutil.copy(file, outside / file.name)
    file.unlink()
    file.symlink_to(draw.choice((outside / file.name, "/dev/zero", "/dev/null", "/nowhere", file.name, outside)))


def be_other(draw: random.Random, file: Path) -> None:
    """Another of the folder's files under this name."""
    siblings = [other for other in file.parent.iterdir() if other.is_file() and other != file]
    others = [other for other in siblings if other.stat().st_size < 2**22]  # a sparse one would become a real one
    if others:
        shutil.copy(draw.choice(others), file)
    else:
        file.write_bytes(b"")


def unreadable(draw: random.Random, file: Path) -> None:
    file.write_bytes(os.urandom(draw.choice((0, 1, 7, 8, 9, 100, 5000))))


DAMAGE: tuple[Callable[[random.Random, Path], None], ...] = (
    *(flip, cut, lengthen, blank, scramble, stretch, remove, be_folder, be_pipe, be_socket, be_link, be_other),
    unreadable,
)
"""What happens to a file whatever it holds."""
