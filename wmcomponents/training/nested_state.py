"""Nested states, such as an agent's, in one safetensors file: tensors as they are, the rest as JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from wmcomponents._whole import write_whole
from wmcomponents.training.checkpoint import BadCheckpointError

TENSOR, PAIRS = "__tensor__", "__pairs__"


def save_nested(path: str | Path, state: Mapping[str, Any]) -> None:
    """Write a state; whoever reads the path finds the old one or the new one, never a part.

    Args:
        path: the file.
        state: nested dicts (keys are strings or whole numbers), lists and tuples of tensors, numbers, strings, booleans
            and ``None``.

    Raises:
        TypeError: if it holds anything else; the message names where.
    """
    tensors: dict[str, Tensor] = {}
    plain = json.dumps(_taken_apart(state, tensors, "state"))
    write_whole(path, safetensors.torch.save(tensors, {"state": plain}))


def load_nested(path: str | Path) -> dict[str, Any]:
    """What :func:`save_nested` wrote; tuples come back as lists.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: if there is no such file.
        BadCheckpointError: if it is damaged or something else.
    """
    path = Path(path)
    try:
        with safetensors.safe_open(str(path), "pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
        found = _put_together(json.loads(metadata["state"]), tensors)
        if not isinstance(found, dict):
            raise ValueError("it holds no state")
        return found
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no saved state at {path}.") from error
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        RuntimeError,
        RecursionError,
        safetensors.SafetensorError,
    ) as error:
        raise BadCheckpointError(f"{path} is not a saved state, or is damaged ({error}).") from error


def _taken_apart(value: Any, tensors: dict[str, Tensor], place: str) -> Any:
    if isinstance(value, Tensor):
        tensors[place] = value.detach().to("cpu", copy=True).contiguous()
        return {TENSOR: place}
    if isinstance(value, Mapping):
        pairs = [[key, _taken_apart(entry, tensors, f"{place}/{key}")] for key, entry in value.items()]
        if any(type(key) not in (str, int) for key, _ in pairs):
            raise TypeError(f"{place} has keys that are neither strings nor whole numbers; it cannot be saved.")
        return {PAIRS: pairs}
    if isinstance(value, (list, tuple)):
        return [_taken_apart(entry, tensors, f"{place}/{number}") for number, entry in enumerate(value)]
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(f"{place} is a {type(value).__name__}; a saved state holds tensors and plain values.")


def _put_together(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_put_together(entry, tensors) for entry in value]
    if isinstance(value, dict):
        if TENSOR in value:
            return tensors[value[TENSOR]]
        return {key: _put_together(entry, tensors) for key, entry in value[PAIRS]}
    return value
