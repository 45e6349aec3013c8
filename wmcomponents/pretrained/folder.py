"""A model's folder: which files it has, their hashes, and how it is replaced in one step."""

import ctypes
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from wmcomponents.world_model import State

FORMAT = 1
CONFIG, WEIGHTS, STARTS = "config.json", "model.safetensors", "starts.safetensors"
LARGEST_CONFIG = 2**26
"""Bytes of a config.json: bounds of single pixels make it large, nothing makes it larger than this."""


class BadModelError(ValueError):
    """A model folder is missing, incomplete, damaged or of another kind; nothing was loaded from it."""


def read_config(path: str | Path) -> dict[str, Any]:
    """The checked content of a model folder's ``config.json``.

    Raises:
        BadModelError: if it is missing, not JSON, was changed after it was saved, or has another format.
    """
    path = Path(path)
    file = path / CONFIG
    data = _bytes(path, CONFIG, LARGEST_CONFIG)
    try:
        content = json.loads(data)
        # Byte for byte, not only in what it means: so that not even a bit that means nothing can be flipped.
        is_whole = isinstance(content, dict) and data == _encoded(content)
        is_true = is_whole and content.get("sha256") == _digest(content)
    except (ValueError, RecursionError) as error:
        raise BadModelError(f"{file} is not valid JSON; save the model again ({error}).") from error
    kinds = {
        **dict.fromkeys(("config", "observation_spec", "action_spec"), dict),
        **dict.fromkeys(("model", "weights_sha256", "sha256"), str),
        "format": int,
    }
    if not isinstance(content, dict) or not kinds.keys() <= content.keys():
        lacks = sorted(kinds.keys() - content.keys()) if isinstance(content, dict) else "everything"
        raise BadModelError(f"{file} is not the config of a saved model: it lacks {lacks}.")
    if not is_true:
        raise BadModelError(
            f"{file} was changed after the model was saved. Build a model with another config and save that."
        )
    wrong = [key for key, kind in kinds.items() if not isinstance(content[key], kind)]
    if wrong or not isinstance(content.get("starts_sha256", ""), str):
        raise BadModelError(f"{file}: {', '.join(wrong) or 'starts_sha256'} has another type than a saved model's.")
    if content["format"] != FORMAT:
        raise BadModelError(f"{path} has format {content['format']}; this version reads format {FORMAT}.")
    return content


def read_starts(path: str | Path) -> State | None:
    """The start states kept beside a saved model, ``[N, ...]``, or ``None`` if there are none.

    Raises:
        BadModelError: if they are damaged.
    """
    content = read_config(path)
    return read_tensors(Path(path), STARTS, content["starts_sha256"]) if "starts_sha256" in content else None


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Write the files of a model to a folder, atomically: a reader sees the old folder or the new one.

    Raises:
        FileExistsError: if the path exists and is not a saved model, or holds files that would be lost.
    """
    path = path.resolve()
    _check_replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        for name, data in files.items():
            with open(fresh / name, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        os.chmod(fresh, 0o755)
        _replace_folder(fresh, path)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def serialized(tensors: Mapping[str, Tensor]) -> bytes:
    """Tensors as the bytes of a safetensors file."""
    return safetensors.torch.save({key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()})


def sealed(content: Mapping[str, Any]) -> bytes:
    """The bytes of a config.json: its content and the hash of it.

    Raises:
        TypeError, ValueError: if it cannot be written as JSON.
    """
    return _encoded({**content, "sha256": _digest(content)})


def _bytes(path: Path, name: str, largest: int | None = None) -> bytes:
    """Content of one file of a folder: a regular one, of at most so many bytes."""
    file = path / name
    if not file.is_file():
        raise BadModelError(f"{path} holds no file {name}: it is not a saved model, or is incomplete.")
    try:
        if largest is not None and file.stat().st_size > largest:
            size = file.stat().st_size
            raise BadModelError(f"{file} has {size:,} bytes; that of a saved model has at most {largest:,}.")
        return file.read_bytes()
    except OSError as error:
        raise BadModelError(f"{file} cannot be read ({error.strerror}).") from error


def read_tensors(path: Path, name: str, digest: str) -> dict[str, Tensor]:
    """The tensors of one safetensors file that the config vouches for.

    Raises:
        BadModelError: if it is missing, or is not the file that the config was written with.
    """
    data = _bytes(path, name)
    if hashlib.sha256(data).hexdigest() != digest:
        raise BadModelError(
            f"{path / name} is not the file that {CONFIG} was written with: it is damaged or was replaced."
        )
    try:
        return safetensors.torch.load(data)
    except Exception as error:  # safetensors raises its own error class, and ValueError or KeyError on odd headers
        raise BadModelError(f"{path / name} is not a safetensors file ({error}).") from error


def _encoded(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


def _digest(content: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in content.items() if key != "sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _check_replaceable(path: Path) -> None:
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not (path / CONFIG).is_file():
        raise FileExistsError(f"{path} exists and holds no saved model: choose another folder, or empty this one.")
    others = sorted(file.name for file in path.iterdir() if file.name not in (CONFIG, WEIGHTS, STARTS))
    if others:
        raise FileExistsError(
            f"{path} holds more than a saved model, which would be lost ({', '.join(others)}): move it away."
        )


def _replace_folder(fresh: Path, path: Path) -> None:
    """Put a folder in the place of another; what stood there is then at ``fresh``."""
    if not path.exists():
        os.replace(fresh, path)
    elif not _exchange(fresh, path):
        old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
        os.replace(path, old / path.name)
        os.replace(fresh, path)
        shutil.rmtree(old)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two paths in one step, where the system can. Whether it was done."""
    name, at, flag = {"linux": ("renameat2", -100, 2), "darwin": ("renameatx_np", -2, 2)}.get(sys.platform, ("", 0, 0))
    rename = getattr(ctypes.CDLL(None), name, None) if name else None
    return rename is not None and rename(at, os.fsencode(one), at, os.fsencode(other), ctypes.c_uint(flag)) == 0
