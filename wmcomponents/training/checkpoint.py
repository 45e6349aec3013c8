"""The atomic bundle of a training run: everything that decides its future, in one safetensors file."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any, cast

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

FORMAT = "1"


class BadCheckpointError(ValueError):
    """A checkpoint is damaged, or belongs to another run."""


def save_checkpoint(
    path: str | Path,
    *,
    model: nn.Module,
    objective: nn.Module,
    optimizer: Optimizer,
    generators: dict[str, torch.Generator],
    counters: dict[str, Any],
) -> None:
    """Write the bundle; whoever reads the path finds the old bundle or the new one, never a part.

    Args:
        path: the file.
        model: the model in training.
        objective: its loss module; what it holds beyond the model (target networks, running statistics) is kept too.
        optimizer: its optimiser.
        generators: every generator that decides what comes next, by name; torch's global one is always kept.
        counters: JSON-able numbers, such as the step.
    """
    path = Path(path)
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    tensors.update({f"objective/{name}": value for name, value in _own_tensors(objective, model).items()})
    state = optimizer.state_dict()
    plain: dict[str, Any] = {}
    for index, entries in state["state"].items():
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{index}/{name}"] = value
            else:
                plain[f"{index}/{name}"] = value
    tensors["rng/torch"] = torch.get_rng_state()
    tensors.update({f"rng/{name}": generator.get_state() for name, generator in generators.items()})
    metadata = {
        "format": FORMAT,
        "counters": json.dumps(counters),
        "optimizer": json.dumps({"groups": state["param_groups"], "plain": plain}),
    }
    data = safetensors.torch.save({key: _plain(value) for key, value in tensors.items()}, metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(name, path)


def load_checkpoint(
    path: str | Path,
    *,
    model: nn.Module,
    objective: nn.Module,
    optimizer: Optimizer,
    generators: dict[str, torch.Generator],
) -> dict[str, Any]:
    """Restore what :func:`save_checkpoint` wrote, in place.

    Returns:
        The counters.

    Raises:
        FileNotFoundError: if there is no such file.
        BadCheckpointError: if it is damaged or was written by a run of another shape; nothing is changed then.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint at {path}.")
    try:
        with safetensors.safe_open(str(path), "pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        counters, state = json.loads(metadata["counters"]), json.loads(metadata["optimizer"])
    except Exception as error:  # safetensors raises its own class; a missing key or broken JSON mean the same to a reader
        raise BadCheckpointError(f"{path} is not a checkpoint, or is damaged ({error}).") from error
    own = _own_tensors(objective, model)
    weights = _under(tensors, "model/")
    expected = {key: value.shape for key, value in model.state_dict().items()}
    names = {f"rng/{name}" for name in (*generators, "torch")}
    if (
        {key: value.shape for key, value in weights.items()} != expected
        or set(_under(tensors, "objective/")) != set(own)
        or not names <= set(tensors)
        or len(state["groups"]) != len(optimizer.param_groups)
    ):
        raise BadCheckpointError(f"{path} belongs to another run: its model, objective or optimiser has another shape.")
    entries: dict[int, dict[str, Any]] = {}
    for key, value in _under(tensors, "optimizer/").items():
        index, name = key.split("/", 1)
        entries.setdefault(int(index), {})[name] = value
    for key, value in state["plain"].items():
        index, name = key.split("/", 1)
        entries.setdefault(int(index), {})[name] = value
    groups = [{**group, "betas": tuple(group["betas"])} if "betas" in group else group for group in state["groups"]]
    model.load_state_dict(weights)
    with torch.no_grad():
        for name, value in _under(tensors, "objective/").items():
            own[name].copy_(value)
    optimizer.load_state_dict({"state": entries, "param_groups": groups})
    for name, generator in generators.items():
        generator.set_state(tensors[f"rng/{name}"])
    torch.set_rng_state(tensors["rng/torch"])
    return cast("dict[str, Any]", counters)


def _own_tensors(objective: nn.Module, model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of the objective that are not the model's."""
    theirs = {value.data_ptr() for value in (*model.parameters(), *model.buffers())}
    named = (*objective.named_parameters(), *objective.named_buffers())
    return {name: value for name, value in named if value.data_ptr() not in theirs}


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().clone()
