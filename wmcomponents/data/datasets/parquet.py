"""Columns of a parquet file as rows, a row group at a time in memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from wmcomponents._extras import require
from wmcomponents.data.folder import BadDataError

LARGEST_GROUP = 2**31
"""Bytes of one column in a row group."""


class ParquetColumns:
    """The columns of a parquet file.

    Args:
        path: the file.

    Raises:
        BadDataError: if it is none.
    """

    def __init__(self, path: Path) -> None:
        pq = require("pyarrow.parquet", extra="datasets")
        self.path = path
        if not path.is_file():
            raise BadDataError(f"{path} is no file.")
        try:
            self._file = pq.ParquetFile(path)
        except Exception as error:  # pyarrow has classes of its own for each fault
            raise BadDataError(f"{path} is no parquet file that can be read ({error}).") from error
        self.count = int(self._file.metadata.num_rows)
        self._columns: dict[str, ParquetRows] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._file.schema_arrow.names

    def __iter__(self) -> Iterator[str]:
        return iter(self._file.schema_arrow.names)

    def column(self, name: str) -> "ParquetRows":
        """A column.

        Raises:
            BadDataError: if there is none of this name.
        """
        if name not in self:
            raise BadDataError(f"{self.path} has no column {name!r}, but {sorted(self)}.")
        if name not in self._columns:
            self._columns[name] = ParquetRows(self._file, name, self.path)
        return self._columns[name]


class ParquetRows:
    """One column: numbers ``[n]``, lists of equal length ``[n, ...]``, or encoded images, a row of bytes each."""

    def __init__(self, file: Any, name: str, path: Path) -> None:
        self._file, self._name, self._where = file, name, f"{path}: the column {name!r}"
        counts = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
        self._starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self._group, self._rows = -1, np.empty(0)
        first = self[0:1] if sum(counts) else np.empty(0)
        self.shape, self.dtype = (int(self._starts[-1]), *first.shape[1:]), first.dtype

    def __getitem__(self, index: slice) -> np.ndarray:
        start, stop = index.start, min(index.stop, int(self._starts[-1]))
        parts = []
        while start < stop:
            group = int(np.searchsorted(self._starts, start, side="right")) - 1
            rows, first = self._read(group), int(self._starts[group])
            end = min(stop, int(self._starts[group + 1]))
            parts.append(rows[start - first : end - first])
            start = end
        return parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else self._rows[:0]

    def _read(self, group: int) -> np.ndarray:
        if group != self._group:
            meta = self._file.metadata.row_group(group)
            size = sum(
                meta.column(at).total_uncompressed_size
                for at in range(meta.num_columns)
                if f"{meta.column(at).path_in_schema}.".startswith(f"{self._name}.")
            )
            if size > LARGEST_GROUP:
                raise BadDataError(f"{self._where} has {size:,} bytes in one group of rows; at most {LARGEST_GROUP:,}.")
            table = self._file.read_row_group(group, columns=[self._name], use_threads=False)
            self._rows = self._array(table.column(self._name).combine_chunks())
            self._group = group
        return self._rows

    def _array(self, column: Any) -> np.ndarray:
        pa = require("pyarrow", extra="datasets")
        if isinstance(column, pa.ChunkedArray):
            column = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
        if column.null_count:
            raise BadDataError(f"{self._where} has empty cells.")
        if pa.types.is_struct(column.type):  # an image: {"bytes": ..., "path": ...}
            column = column.field("bytes") if column.type.get_field_index("bytes") >= 0 else column
        if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
            found = np.empty(len(column), object)
            found[:] = column.to_pylist()
            return found
        shape: list[int] = [len(column)]
        kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
        while any(is_kind(column.type) for is_kind in kinds):
            inner = column.flatten()
            if len(column) == 0 or len(inner) % len(column) or not self._is_even(column, len(inner) // len(column)):
                raise BadDataError(f"{self._where} has rows of unequal length.")
            shape.append(len(inner) // len(column))
            column = inner
        if column.null_count:
            raise BadDataError(f"{self._where} has empty cells.")
        try:
            return column.to_numpy(zero_copy_only=False).reshape(shape)
        except (ValueError, TypeError) as error:
            raise BadDataError(f"{self._where} holds no numbers ({error}).") from error

    @staticmethod
    def _is_even(column: Any, size: int) -> bool:
        pc = require("pyarrow.compute", extra="datasets")
        return bool(pc.all(pc.equal(pc.list_value_length(column), size)).as_py())
