"""Nested states, such as an agent's, in one safetensors file: tensors as they are, the rest as JSON."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from wmcomponents.training.checkpoint import FORMAT, BadCheckpointError, digest_of, read_tensors, write_tensors

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
    metadata = {"format": FORMAT, "state": json.dumps(_taken_apart(state, tensors, "state"))}
    metadata["sha256"] = digest_of(tensors, metadata)
    write_tensors(Path(path), tensors, metadata)


def load_nested(path: str | Path) -> dict[str, Any]:
    """What :func:`save_nested` wrote; tuples come back as lists.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: if there is no such file.
        BadCheckpointError: if it is damaged or something else.
    """
    path = Path(path)
    tensors, metadata = read_tensors(path)
    try:
        found = _put_together(json.loads(metadata["state"]), tensors)
        if not isinstance(found, dict):
            raise ValueError("it holds no state")
        return found
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadCheckpointError(f"{path} is not a saved state, or is damaged ({error}).") from error


def not_numbers(state: Any, place: str = "state") -> Iterator[str]:
    """Where a nested state holds a NaN. Infinity may stand for "none yet" in what is counted.

    Args:
        state: as for :func:`save_nested`.
        place: what to call it.
    """
    if isinstance(state, Tensor):
        if state.is_floating_point() and bool(state.isnan().any()):
            yield place
    elif isinstance(state, Mapping):
        for key, entry in state.items():
            yield from not_numbers(entry, f"{place}/{key}")
    elif isinstance(state, (list, tuple)):
        for number, entry in enumerate(state):
            yield from not_numbers(entry, f"{place}/{number}")
    elif isinstance(state, float) and state != state:
        yield place


def _taken_apart(value: Any, tensors: dict[str, Tensor], place: str) -> Any:
    if isinstance(value, Tensor):
        name = f"{len(tensors)} {place}"  # numbered: two places may read the same
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {TENSOR: name}
    if isinstance(value, Mapping):
        if any(type(key) not in (str, int) for key in value):
            raise TypeError(f"{place} has keys that are neither strings nor whole numbers; it cannot be saved.")
        return {PAIRS: [[key, _taken_apart(entry, tensors, f"{place}/{key}")] for key, entry in value.items()]}
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
        pairs = [(key, _put_together(entry, tensors)) for key, entry in value[PAIRS]]
        if any(type(key) not in (str, int) for key, _ in pairs):
            raise ValueError("its keys are not strings or whole numbers")
        return dict(pairs)
    return value
