"""The atomic bundle of a training run: everything that decides its future, in one safetensors file."""

import hashlib
import json
import os
from collections.abc import Mapping
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
    settings: dict[str, Any] | None = None,
) -> None:
    """Write the bundle; whoever reads the path finds the old bundle or the new one, never a part.

    Args:
        path: the file.
        model: the model in training.
        objective: its loss module; what it holds beyond the model (target networks, running statistics) is kept too.
        optimizer: its optimiser.
        generators: every generator that decides what comes next, by name; torch's global ones are always kept.
        counters: JSON-able numbers, such as the step.
        settings: JSON-able choices that must be the same in the run that goes on from here.

    Raises:
        TypeError: if the optimiser's state is not made of tensors and JSON-able values.
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
    tensors.update({f"rng/{name}": value for name, value in _random_states(model, generators).items()})
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    try:
        metadata = {
            "format": FORMAT,
            "run": json.dumps(_identity(model, objective, optimizer, settings)),
            "counters": json.dumps(counters),
            "optimizer": json.dumps({"groups": state["param_groups"], "plain": plain}),
        }
    except TypeError as error:
        raise TypeError(
            f"the state of {type(optimizer).__name__} cannot be kept in a checkpoint ({error}); use numbers where it "
            f"has tensors or objects among its options (lr=1e-3, not a tensor)."
        ) from error
    metadata["sha256"] = _digest(tensors, metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    # One name for all unfinished writes: a run that is killed again and again leaves one of them behind, not many.
    unfinished = path.with_name(f".{path.name}.unfinished")
    safetensors.torch.save_file(tensors, unfinished, metadata)
    with open(unfinished, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(unfinished, path)


def load_checkpoint(
    path: str | Path,
    *,
    model: nn.Module,
    objective: nn.Module,
    optimizer: Optimizer,
    generators: dict[str, torch.Generator],
    settings: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Restore what :func:`save_checkpoint` wrote, in place.

    Returns:
        The counters.

    Raises:
        FileNotFoundError: if there is no such file.
        BadCheckpointError: if it is damaged or was written by another run; nothing is changed then.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint at {path}.")
    tensors, metadata = _read(path)
    saved, own = json.loads(metadata["run"]), _identity(model, objective, optimizer, settings)
    own = json.loads(json.dumps(own))
    different = [f"{key} was {saved.get(key)!r}, is {own.get(key)!r}" for key in own if saved.get(key) != own[key]]
    beyond, random = _own_tensors(objective, model), _random_states(model, generators)
    for prefix, expected in (("model/", model.state_dict()), ("objective/", beyond), ("rng/", random)):
        different += _differences(prefix, _under(tensors, prefix), expected)
    if different:
        words = "; ".join(different[:3]) + (" ..." if different[3:] else "")
        raise BadCheckpointError(
            f"{path} belongs to another run: {words}. Go on with the arguments it was written with, or choose another "
            f"folder."
        )
    state = json.loads(metadata["optimizer"])
    entries: dict[int, dict[str, Any]] = {}
    for key, value in (*_under(tensors, "optimizer/").items(), *state["plain"].items()):
        index, name = key.split("/", 1)
        entries.setdefault(int(index), {})[name] = value
    pairs = zip(state["groups"], optimizer.param_groups, strict=True)
    groups = [{key: _like(value, now.get(key)) for key, value in group.items()} for group, now in pairs]
    model.load_state_dict(_under(tensors, "model/"))
    with torch.no_grad():
        for name, value in _under(tensors, "objective/").items():
            beyond[name].copy_(value)
    optimizer.load_state_dict({"state": entries, "param_groups": groups})
    for name, generator in generators.items():
        generator.set_state(tensors[f"rng/{name}"])
    torch.set_rng_state(tensors["rng/torch"])
    device = _cuda(model)
    if device is not None:
        torch.cuda.set_rng_state(tensors["rng/cuda"], device)
    return cast("dict[str, Any]", json.loads(metadata["counters"]))


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a whole and undamaged bundle."""
    try:
        with safetensors.safe_open(str(path), "pt") as file:
            metadata = file.metadata() or {}
            # Out of the file's mapping: the file may be replaced while the run goes on.
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise BadCheckpointError(f"{path} is not a checkpoint, or is damaged ({error}).") from error
    if metadata.get("sha256") != _digest(tensors, metadata):
        raise BadCheckpointError(f"{path} is damaged, or is not a checkpoint: its content does not match its hash.")
    if metadata.get("format") != FORMAT:
        raise BadCheckpointError(f"{path} has format {metadata.get('format')}; this version reads format {FORMAT}.")
    return tensors, metadata


def _identity(
    model: nn.Module, objective: nn.Module, optimizer: Optimizer, settings: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What must agree between the run that wrote a bundle and the one that goes on from it."""
    return {
        **(settings or {}),
        "model": type(model).__name__,
        "objective": type(objective).__name__,
        "optimizer": type(optimizer).__name__,
        "parameters of the optimizer": [[list(p.shape) for p in group["params"]] for group in optimizer.param_groups],
    }


def _random_states(model: nn.Module, generators: Mapping[str, torch.Generator]) -> dict[str, Tensor]:
    states = {"torch": torch.get_rng_state(), **{name: one.get_state() for name, one in generators.items()}}
    device = _cuda(model)
    return states if device is None else {**states, "cuda": torch.cuda.get_rng_state(device)}


def _cuda(model: nn.Module) -> torch.device | None:
    device = next((value.device for value in model.parameters()), None)
    return device if device is not None and device.type == "cuda" else None


def _own_tensors(objective: nn.Module, model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of the objective that are not the model's."""
    theirs = {value.data_ptr() for value in (*model.parameters(), *model.buffers())}
    named = (*objective.named_parameters(), *objective.named_buffers())
    return {name: value for name, value in named if value.data_ptr() not in theirs}


def _differences(prefix: str, saved: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """In words, where two sets of named tensors do not fit each other."""
    words = [f"it lacks {prefix}{name}" for name in own if name not in saved]
    words += [f"it has {prefix}{name}" for name in saved if name not in own]
    for name in own.keys() & saved.keys():
        was, now = saved[name], own[name]
        if (was.shape, was.dtype) != (now.shape, now.dtype):
            words.append(f"{prefix}{name} was {was.dtype} {list(was.shape)}, is {now.dtype} {list(now.shape)}")
    return words


def _like(value: Any, now: Any) -> Any:
    """An option of the optimiser as it was before JSON made its tuples lists."""
    return tuple(value) if isinstance(now, tuple) else value


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps({k: v for k, v in metadata.items() if k != "sha256"}, sort_keys=True).encode())
    for key in sorted(tensors):
        value = tensors[key]
        digest.update(f"{key} {value.dtype} {list(value.shape)}".encode())
        if value.numel():
            digest.update(cast(Any, value.reshape(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()
