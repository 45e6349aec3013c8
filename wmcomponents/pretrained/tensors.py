"""Safetensors files, read strictly: the header first, and the numbers once it was compared with what is wanted."""

import hashlib
import math
import os
import struct
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO, NamedTuple

import safetensors.torch
import torch
from torch import Tensor

from wmcomponents._memory import free_memory
from wmcomponents.pretrained.files import LARGEST_JSON, parse_json

DTYPES = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16},
    **{"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "C64": torch.complex64},
    **{"BOOL": torch.bool, "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8},
    **{"U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8},
}
NAMED = 3
"""How many tensors an error names before it says how many more there are."""


class _Entry(NamedTuple):
    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


class TensorFile:
    """A safetensors file whose header was checked against its size; no number was read yet.

    Args:
        file: the file, at its beginning; it is closed by whoever opened it.
        name: of the file, for the errors.
        refusal: the exception that everything odd is refused with.

    Raises:
        refusal: if the header is none, or the tensors that it states do not fill the file exactly.
    """

    def __init__(self, file: BinaryIO, name: str, refusal: type[Exception]) -> None:
        self._file, self.name, self._refusal = file, name, refusal
        self.size = os.fstat(file.fileno()).st_size
        try:
            self._head = file.read(8)
            if len(self._head) < 8:
                raise ValueError(f"it has {self.size} bytes")
            (length,) = struct.unpack("<Q", self._head)
            if length > min(LARGEST_JSON, self.size - 8):
                raise ValueError(f"its header states {length:,} bytes of {self.size:,}")
            data = file.read(length)
            self._head += data
            self._entries, self.metadata = _entries(parse_json(data), self.size - 8 - length)
        except (OSError, ValueError, RecursionError) as error:
            raise refusal(
                f"{name} is not a safetensors file: it is truncated, is damaged or was replaced ({error})."
            ) from error

    def shapes(self) -> dict[str, Tensor]:
        """The tensors without their numbers, on the meta device."""
        return {key: torch.empty(e.shape, dtype=e.dtype, device="meta") for key, e in self._entries.items()}

    def read(self, digest: str | None = None) -> dict[str, Tensor]:
        """The tensors.

        Args:
            digest: the SHA-256 that the file must have; not asked for if not given.

        Raises:
            refusal: if it has another one, cannot be read, or does not fit into the memory of this machine.
        """
        fault = too_large(self.size)
        if fault:
            raise self._refusal(f"{self.name} {fault}.")
        seen = hashlib.sha256(self._head)
        found: dict[str, Tensor] = {}
        try:
            self._file.seek(len(self._head))
            for key, entry in sorted(self._entries.items(), key=lambda pair: (pair[1].begin, pair[1].end)):
                value = torch.empty(entry.shape, dtype=entry.dtype, device="cpu")
                content: Any = value.reshape(-1).view(torch.uint8).numpy()
                if value.numel():
                    if self._file.readinto(content) != entry.end - entry.begin:  # pyright: ignore[reportAttributeAccessIssue]
                        raise ValueError("it is shorter than it was")
                    seen.update(content)
                    if value.dtype == torch.bool and content.max() > 1:
                        raise ValueError(f"{key} has truth values other than 0 and 1")
                found[key] = value
        except (OSError, ValueError, MemoryError, RuntimeError) as error:  # RuntimeError: torch, for want of memory
            raise self._refusal(f"{self.name} cannot be read ({error}).") from error
        if digest is not None and seen.hexdigest() != digest:
            raise self._refusal(
                f"{self.name} is not the file that was written with the rest: it is damaged or was replaced."
            )
        return found


def serialized(tensors: Mapping[str, Tensor]) -> bytes:
    """Tensors as the bytes of a safetensors file."""
    return safetensors.torch.save({key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()})


def nonfinite(tensors: Mapping[str, Tensor]) -> str:
    """In words, which tensors hold NaN or infinity; empty if none does."""
    found = []
    for key, value in tensors.items():
        if value.dtype in (torch.float8_e4m3fn, torch.float8_e5m2):
            value = value.float()
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            found.append(f"{key} ({int((~torch.isfinite(value)).sum()):,} of {value.numel():,} numbers)")
    return listed(found, NAMED)


def listed(words: Iterable[str], most: int) -> str:
    """The first of many, and how many more there are."""
    words = list(words)
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")


def _entries(header: Any, size: int) -> tuple[dict[str, _Entry], dict[str, str]]:
    """What a header states, if it is so for that many bytes of numbers.

    Raises:
        ValueError: if not.
    """
    if not isinstance(header, dict):
        raise ValueError("its header is no mapping")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata are no texts")
    entries = {key: _entry(key, stated) for key, stated in header.items()}
    end = 0
    for entry in sorted(entries.values(), key=lambda entry: (entry.begin, entry.end)):
        if entry.begin != end:
            raise ValueError(f"its tensors overlap or leave holes at byte {end}")
        end = entry.end
    if end != size:
        raise ValueError(f"its tensors fill {end:,} bytes, and it holds {size:,}")
    return entries, metadata


def _entry(key: str, stated: Any) -> _Entry:
    if not isinstance(stated, dict) or set(stated) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{key:.80} has no dtype, shape and data_offsets, or has more")
    shape, offsets, dtype = stated["shape"], stated["data_offsets"], stated["dtype"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"{key:.80} has the dtype {dtype!r:.40}")
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or not all(type(n) is int and 0 <= n < 2**62 for n in numbers):
            raise ValueError(f"{key:.80} has sizes that are none")
    wanted = math.prod(shape) * DTYPES[dtype].itemsize
    if len(shape) > 64 or len(offsets) != 2 or offsets[1] - offsets[0] != wanted:
        raise ValueError(f"{key:.80} of shape {str(shape):.80} does not take the bytes {str(offsets):.80}")
    return _Entry(DTYPES[dtype], tuple(shape), *offsets)


def too_large(size: int) -> str:
    """In words, why a file of tensors is too large for this machine; empty if it is not.

    There must be room twice: the tensors are copied into a model.
    """
    free = free_memory()
    if free is None or 2 * size <= free:
        return ""
    return f"has {size:,} bytes, and needs twice that in memory, more than is free on this machine ({free:,})"
