"""Arrays of an ``.npz`` file, read as they come: never unpickled, never all at once."""

import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from wmcomponents.data.datasets.rows import LARGEST_ROW, Rows
from wmcomponents.data.folder import BadDataError


class NpzFile(Mapping[str, Rows]):
    """An ``.npz`` file, opened. A context manager.

    Args:
        path: the file.

    Raises:
        BadDataError: if it is none.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._zip = zipfile.ZipFile(self.path)
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            reason = getattr(error, "strerror", None) or error
            raise BadDataError(f"{path} is no .npz file that can be read ({reason}).") from error
        names = [name.removesuffix(".npy") for name in self._zip.namelist() if name.endswith(".npy")]
        rows = {name: ZippedRows(self._zip, name, self.path) for name in names}
        self._rows = {name: one for name, one in rows.items() if one.shape}

    def __getitem__(self, name: str) -> Rows:
        return self._rows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __enter__(self) -> "NpzFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()


class ZippedRows:
    """One array of an ``.npz`` file. Slices in rising order are read once; going back begins anew.

    Args:
        archive: the file.
        name: of the array.
        path: of the file, for errors.

    Raises:
        BadDataError: if it is no array of numbers in C order.
    """

    def __init__(self, archive: zipfile.ZipFile, name: str, path: Path) -> None:
        self._archive, self._name, self._where = archive, name, f"{path}: the array {name!r}"
        self._file: IO[bytes] | None = None
        self._at = 0
        self._kept = np.empty(0)
        self._begin()

    def __getitem__(self, index: slice) -> np.ndarray:
        start, stop = index.start or 0, min(self.shape[0], index.stop if index.stop is not None else self.shape[0])
        if self._file is None or start < self._at - len(self._kept):
            self._begin()
        if start > self._at:
            self._skip(start - self._at)
        before = self._kept[len(self._kept) - (self._at - start) :] if start < self._at else self._kept[:0]
        if stop <= self._at:
            return before[: stop - start].copy()
        found = np.concatenate([before, self._read(stop - self._at)])
        self._kept = found[-1:]  # the observation that one piece ends with begins the next one
        return found

    def _begin(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = self._archive.open(f"{self._name}.npy")
        try:
            self.shape, is_fortran, self.dtype = _header(self._file)
        except (ValueError, EOFError, SyntaxError, TypeError) as error:
            raise BadDataError(f"{self._where} has no header that can be read ({error}).") from error
        if self.dtype.hasobject or self.dtype.kind not in "biufc" or self.dtype.itemsize == 0:
            raise BadDataError(
                f"{self._where} is of {self.dtype}: arrays of numbers are read, and nothing is unpickled."
            )
        if is_fortran and len(self.shape) > 1:
            raise BadDataError(f"{self._where} lies in Fortran order: save np.ascontiguousarray of it.")
        self._row = math.prod(self.shape[1:]) * self.dtype.itemsize
        if self._row > LARGEST_ROW:
            raise BadDataError(f"{self._where} has rows of {self._row:,} bytes; at most {LARGEST_ROW:,} are read.")
        self._at, self._kept = 0, np.empty((0, *self.shape[1:]), self.dtype)

    def _skip(self, rows: int) -> None:
        while rows:
            some = min(rows, max(1, 2**22 // max(1, self._row)))
            self._read(some)
            rows -= some

    def _read(self, rows: int) -> np.ndarray:
        size = rows * self._row
        data = bytearray()
        while len(data) < size:  # never more in memory than the file holds, whatever its header says
            some = self._file.read(min(size - len(data), 2**22))  # pyright: ignore
            if not some:
                raise BadDataError(f"{self._where} is cut off: {self.shape[0]} rows were promised.")
            data += some
        self._at += rows
        found = np.frombuffer(data, self.dtype).reshape(rows, *self.shape[1:])
        if self.dtype.kind == "b":
            found = found.view(np.uint8) != 0
        self._kept = found[-1:]
        return found


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, is_fortran, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"version {version} of the format is not read")
    if any(size < 0 for size in shape):
        raise ValueError(f"its shape is {shape}")
    return shape, is_fortran, dtype
