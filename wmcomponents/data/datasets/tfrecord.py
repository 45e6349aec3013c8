"""TFRecord files of ``tf.train.Example``, by their documented layout: no TensorFlow, no generated code."""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from wmcomponents.data.folder import BadDataError

LARGEST_RECORD = 2**30
Values = list[bytes] | np.ndarray
"""What a feature holds: byte strings, float32 or int64."""


def records(path: Path) -> Iterator[bytes]:
    """The records of a file: each is a length, its checksum, the data, and theirs, which is not computed.

    Raises:
        BadDataError: if it is no such file, or is cut off.
    """
    with path.open("rb") as file:
        number = 0
        while head := file.read(12):
            if len(head) < 12 or _masked(head[:8]) != struct.unpack("<I", head[8:])[0]:
                raise BadDataError(
                    f"{path} is damaged at its record {number}: the length is not the one that was saved."
                )
            (size,) = struct.unpack("<Q", head[:8])
            if size > LARGEST_RECORD:
                raise BadDataError(f"{path} has a record of {size:,} bytes; at most {LARGEST_RECORD:,} are read.")
            data = file.read(size)
            if len(data) != size or len(file.read(4)) != 4:
                raise BadDataError(f"{path} is cut off in its record {number}.")
            yield data
            number += 1


def example(data: bytes) -> dict[str, Values]:
    """The features of a serialised ``tf.train.Example``, by name.

    Raises:
        ValueError: if it is none.
    """
    found: dict[str, Values] = {}
    for number, features in _fields(memoryview(data)):
        if number != 1:
            continue
        for entry_number, entry in _fields(_bytes(features)):
            if entry_number != 1:
                continue
            name, feature = "", memoryview(b"")
            for part_number, part in _fields(_bytes(entry)):
                if part_number == 1:
                    name = bytes(_bytes(part)).decode()
                elif part_number == 2:
                    feature = _bytes(part)
            found[name] = _feature(feature)
    return found


def _feature(feature: memoryview) -> Values:
    for kind, content in _fields(feature):
        values = [value for number, value in _fields(_bytes(content)) if number == 1]
        if kind == 1:
            return [bytes(_bytes(value)) for value in values]
        if kind == 2:
            packed = b"".join(bytes(_bytes(value)) for value in values)
            if len(packed) % 4:
                raise ValueError("its floats are cut off")
            return np.frombuffer(packed, "<f4")
        if kind == 3:
            parts = [np.array([v], np.int64) if isinstance(v, int) else _varints(v) for v in values]
            return np.concatenate(parts) if parts else np.empty(0, np.int64)
    return []


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Number and content of each field of a message."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield number, value - 2**64 if value >= 2**63 else value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"it has a field of the kind {kind}")
        if at + size > len(data):
            raise ValueError("a field of it is cut off")
        yield number, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value & (2**64 - 1), at
    raise ValueError("a number of it is cut off")


def _varints(data: memoryview) -> np.ndarray:
    raw = np.frombuffer(data, np.uint8)
    if not (raw & 128).any():  # numbers below 128, as flags are
        return raw.astype(np.int64)
    found, at = [], 0
    while at < len(data):
        value, at = _varint(data, at)
        found.append(value - 2**64 if value >= 2**63 else value)
    return np.asarray(found, np.int64)


def _bytes(content: memoryview | int) -> memoryview:
    if isinstance(content, int):
        raise ValueError("it has a number where a message should be")
    return content


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)  # Castagnoli's polynomial, reversed
        table.append(value)
    return table


_TABLE = _crc_table()


def _masked(data: bytes) -> int:
    """The masked CRC-32C that stands behind a record's length."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _TABLE[(value ^ byte) & 255]
    value ^= 0xFFFFFFFF
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF
