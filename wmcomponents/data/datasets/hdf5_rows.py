"""Arrays of an HDF5 file as rows: only what lies in the file itself, and only what it really holds."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from wmcomponents._extras import require
from wmcomponents.data.datasets.rows import LARGEST_ROW
from wmcomponents.data.folder import BadDataError

LARGEST_CHUNK = 2**28
"""Bytes that are decompressed at once."""
DENSEST = 2000
"""Bytes that one byte of a file can stand for: more than its compressions reach."""


def opened(path: Path) -> Any:
    """An HDF5 file, for reading.

    Raises:
        BadDataError: if it is none.
    """
    h5py = require("h5py", extra="datasets")
    if not path.is_file():
        raise BadDataError(f"{path} is no file.")
    try:
        return h5py.File(path, "r")
    except (OSError, ValueError, RuntimeError) as error:
        raise BadDataError(f"{path} is no HDF5 file that can be read ({error}).") from error


def child(group: Any, name: str) -> Any:
    """What has a name in a group, which may be a path; ``None`` if nothing has.

    Raises:
        BadDataError: if a link out of the file stands there.
    """
    h5py = require("h5py", extra="datasets")
    for part in name.strip("/").split("/"):
        if not isinstance(group, h5py.Group):
            return None
        link = group.get(part, getlink=True)
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise BadDataError(f"{group.file.filename}: {group.name}/{part} is a link, and links are not followed.")
        group = group[part]
    return group


def children(group: Any) -> Iterator[tuple[str, Any]]:
    """What stands in a group, in the order of the numbers in its names."""
    for name in sorted(group, key=_natural):
        yield name, child(group, name)


def is_group(thing: Any) -> bool:
    """Whether it is a group."""
    return isinstance(thing, require("h5py", extra="datasets").Group)


def is_numbers(thing: Any) -> bool:
    """Whether it is an array of numbers of at least one row."""
    is_array = isinstance(thing, require("h5py", extra="datasets").Dataset)
    return is_array and thing.dtype.kind in "biuf" and len(thing.shape or ()) > 0


def checked(dataset: Any) -> Any:
    """An array that lies in the file, whole.

    Raises:
        BadDataError: if it lies elsewhere, or is far larger than the file could hold.
    """
    where = f"{dataset.file.filename}: {dataset.name}"
    if dataset.is_virtual or dataset.external:
        raise BadDataError(f"{where} lies in another file, and links are not followed.")
    if not is_numbers(dataset):
        raise BadDataError(f"{where} is no array of numbers, but {dataset.dtype} {list(dataset.shape or ())}.")
    row = math.prod(dataset.shape[1:]) * dataset.dtype.itemsize
    held = dataset.id.get_storage_size()
    if row * dataset.shape[0] > DENSEST * (held + 2**10):
        raise BadDataError(f"{where} promises {row * dataset.shape[0]:,} bytes, and the file holds {held:,} of it.")
    chunk = math.prod(dataset.chunks) * dataset.dtype.itemsize if dataset.chunks else 0
    if max(row, 0) > LARGEST_ROW or chunk > LARGEST_CHUNK:
        raise BadDataError(
            f"{where} is kept in pieces of {max(row, chunk):,} bytes; at most {LARGEST_CHUNK:,} are read."
        )
    return dataset


def flags(dataset: Any) -> np.ndarray:
    """All of an array of flags."""
    return np.asarray(checked(dataset)[()]).reshape(-1)


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
