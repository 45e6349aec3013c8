"""The atomic bundle of a training run: everything that decides its future, in one safetensors file."""

import hashlib
import json
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import safetensors
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from wmcomponents._whole import written_whole
from wmcomponents.training.optimizer_state import CHANGEABLE, merged_groups, own_share, state_faults
from wmcomponents.training.random_state import device_of, prepared_random, random_of_rank, random_states

FORMAT = "1"
FREE = (*CHANGEABLE, "device", "options of the optimizer")
"""What may be another in the run that goes on. Options are compared one by one."""

LONG = 200
"""Characters of two lists beyond which an error names the entry that differs, and not all of them."""

ROOM = 8
"""A bundle is at most so many times as large as what it is loaded into: weights, targets, optimiser."""

SPARE_BYTES = 2**24
DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.complex64: "C64",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint64: "U64", torch.uint32: "U32", torch.uint16: "U16", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


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
    state: Mapping[str, Any] | None = None,
    others: Sequence[Mapping[str, Tensor]] = (),
) -> None:
    """Write the bundle; whoever reads the path finds the old bundle or the new one, never a part.

    Args:
        path: the file.
        model: the model in training.
        objective: its loss module; what it holds beyond the model (target networks, running statistics) is kept too.
        optimizer: its optimiser.
        generators: every generator that decides what comes next, by name; torch's global ones are always kept.
        counters: JSON-able numbers, such as the step.
        settings: JSON-able choices that must be the same in the run that goes on from here, but for ``lr`` and
            ``warmup``.
        state: of the optimiser, where it holds shards of it; its own if not given.
        others: states of the generators of further processes that train with this one.

    Raises:
        TypeError: if the optimiser's state is not made of tensors and JSON-able values.
        OSError: if it cannot be written; the bundle from before is as it was.
    """
    path = Path(path)
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    tensors.update({f"objective/{name}": value for name, value in _own_tensors(objective, model).items()})
    state = optimizer.state_dict() if state is None else state
    plain: dict[str, Any] = {}
    for index, entries in state["state"].items():
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{index}/{name}"] = value
            else:
                plain[f"{index}/{name}"] = value
    tensors.update({f"rng/{name}": value for name, value in random_states(model, generators).items()})
    for rank, states in enumerate(others, start=1):
        tensors.update({f"rank {rank}/{name}": value for name, value in states.items()})
    tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
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
    metadata["sha256"] = digest_of(tensors, metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, tensors, metadata)


def load_checkpoint(
    path: str | Path,
    *,
    model: nn.Module,
    objective: nn.Module,
    optimizer: Optimizer,
    generators: dict[str, torch.Generator],
    settings: dict[str, Any] | None = None,
    check: Callable[[dict[str, Any]], Any] | None = None,
    rank: int = 0,
) -> dict[str, Any]:
    """Restore what :func:`save_checkpoint` wrote, in place.

    A run may go on with another learning rate or warm-up (``lr``, ``warmup`` in ``settings``, or in the optimiser's
    options if they are among the settings), and on another kind of device: the noise is then drawn anew there.

    Args:
        path: the file.
        model: gets the weights; of the class, config and specs it was written of.
        objective: gets its own tensors.
        optimizer: gets its state; of the same class and options.
        generators: get their states, by name.
        settings: what decides the run beside those, as plain JSON.
        check: called with the counters before anything is changed; raises a ``ValueError`` if they are not sound.
        rank: of this process among those that train together; where fewer of them wrote the bundle, its generators are
            seeded from those of the first.

    Returns:
        The counters.

    Raises:
        FileNotFoundError: if there is no such file.
        BadCheckpointError: if it is damaged or was written by another run; nothing is changed then.
    """
    path = Path(path)
    beyond = _own_tensors(objective, model)
    held = [*model.state_dict().values(), *beyond.values(), *(p for g in optimizer.param_groups for p in g["params"])]
    tensors, metadata = read_tensors(
        path, ROOM * sum(value.numel() * value.element_size() for value in held) + SPARE_BYTES
    )
    try:
        saved, counters, state = (_object(metadata[name]) for name in ("run", "counters", "optimizer"))
        if not isinstance(state["plain"], dict):
            raise ValueError("its optimizer's state has no names")
        entries = _entries(_under(tensors, "optimizer/"), state["plain"])
        if check is not None:
            check(counters)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise BadCheckpointError(f"{path} is not a checkpoint, or is damaged ({error}).") from error
    own = json.loads(json.dumps(_identity(model, objective, optimizer, settings)))
    different = changes(saved, own)
    different += _unlike(tensors, model, beyond)
    began = (one.get("options of the optimizer") for one in (saved, own))
    groups, faults = merged_groups(state.get("groups"), optimizer, *began)
    different += faults + state_faults(entries, optimizer)
    random, faults = prepared_random(_under(tensors, "rng/"), model, generators, saved.get("device"))
    different += faults
    if rank:
        random, faults = random_of_rank(tensors, rank, model, generators, saved.get("device"))
        different += faults
    if different:
        words = "; ".join(different[:3]) + (" ..." if different[3:] else "")
        raise BadCheckpointError(
            f"{path} belongs to another run: {words}. Go on with the arguments it was written with, or choose another "
            f"folder."
        )
    model.load_state_dict(_under(tensors, "model/"))
    with torch.no_grad():
        for name, value in _under(tensors, "objective/").items():
            beyond[name].copy_(value)
    optimizer.load_state_dict({"state": own_share(entries, optimizer), "param_groups": groups})
    for restore in random:
        restore()
    return counters


def _unlike(tensors: Mapping[str, Tensor], model: nn.Module, beyond: Mapping[str, Tensor]) -> list[str]:
    """In words, which tensors are not those of a model and of what its objective has beyond it, or no numbers."""
    weights = _under(tensors, "model/")
    words = _differences("model/", weights, model.state_dict())
    words += _differences("objective/", _under(tensors, "objective/"), beyond)
    words += [f"model/{name} is not finite" for name, _ in model.named_parameters() if _is_odd(weights.get(name))]
    # Infinity may stand for "none yet" in what is counted; NaN stands for nothing.
    return words + [
        f"{key} is not a number" for key, value in tensors.items() if value.is_floating_point() and value.isnan().any()
    ]


def changes(saved: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """In words, what of a run must not differ and does. Entries that the saved one does not know take no part."""
    words = []
    for key, now in own.items():
        if key in FREE or key not in saved or saved[key] == now:
            continue
        was = saved[key]
        if isinstance(now, dict) and isinstance(was, dict):
            words += [f"{key}.{word}" for word in changes(was, now)]
        else:
            words.append(_difference(key, was, now))
    return words


def _difference(key: str, was: Any, now: Any) -> str:
    """In words, how two values differ: of long lists their lengths, or the first entry that does."""
    if isinstance(was, list) and isinstance(now, list) and len(repr(was)) + len(repr(now)) > LONG:
        if len(was) != len(now):
            return f"{key} had {len(was)} entries, has {len(now)}"
        place = next(place for place, pair in enumerate(zip(was, now, strict=True)) if pair[0] != pair[1])
        return _difference(f"{key}[{place}]", was[place], now[place])
    return f"{key} was {was!r}, is {now!r}"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, tensor by tensor, so that no second copy of them is held in memory.

    Args:
        path: the file; whoever reads it finds the old content or the new one.
        tensors: contiguous ones on the CPU.
        metadata: beside them.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    order = sorted(tensors, key=lambda key: (-tensors[key].element_size(), key))  # every tensor lies aligned
    end = 0
    for key in order:
        begin, end = end, end + tensors[key].numel() * tensors[key].element_size()
        header[key] = {
            "dtype": DTYPES[tensors[key].dtype],
            "shape": list(tensors[key].shape),
            "data_offsets": [begin, end],
        }
    data = json.dumps(header, separators=(",", ":")).encode()
    data += b" " * (-len(data) % 8)
    with written_whole(path) as file:
        file.write(len(data).to_bytes(8, "little") + data)
        for key in order:
            if tensors[key].numel():
                file.write(_bytes(tensors[key]))


def read_tensors(path: Path, largest: int | None = None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a whole and undamaged file of this format.

    Args:
        path: the file.
        largest: bytes that it may have; any number if not given.

    Raises:
        FileNotFoundError: if there is no such file.
        BadCheckpointError: if it is something else, or its content does not match its hash.
    """
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode):
            raise BadCheckpointError(f"{path} is not a checkpoint: it is not a file. Move it away.")
        if largest is not None and found.st_size > largest:
            raise BadCheckpointError(
                f"{path} has {found.st_size:,} bytes, far more than this model and its optimizer: it is not a "
                f"checkpoint of this run."
            )
        with safetensors.safe_open(str(path), "pt") as file:
            metadata = file.metadata() or {}
            # Out of the file's mapping: the file may be replaced while the run goes on.
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no checkpoint at {path}.") from error
    except BadCheckpointError:
        raise
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, safetensors.SafetensorError) as error:
        raise BadCheckpointError(f"{path} is not a checkpoint, or is damaged ({error}).") from error
    if metadata.get("sha256") != digest_of(tensors, metadata):
        raise BadCheckpointError(f"{path} is damaged, or is not a checkpoint: its content does not match its hash.")
    if metadata.get("format") != FORMAT:
        raise BadCheckpointError(f"{path} has format {metadata.get('format')}; this version reads format {FORMAT}.")
    return tensors, metadata


def _object(text: str) -> dict[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("its metadata are not those of a checkpoint")
    return cast("dict[str, Any]", found)


def _entries(tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """The optimiser's state by the number of the parameter."""
    entries: dict[int, dict[str, Any]] = {}
    for key, value in (*tensors.items(), *plain.items()):
        index, name = key.split("/", 1)
        if not index.isascii() or not index.isdecimal() or str(int(index)) != index:
            raise ValueError(f"no parameter has the number {index[:20]!r}")
        entries.setdefault(int(index), {})[name] = value
    return entries


def _identity(
    model: nn.Module, objective: nn.Module, optimizer: Optimizer, settings: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What must agree between the run that wrote a bundle and the one that goes on from it, and its device."""
    return {
        **(settings or {}),
        "model": type(model).__name__,
        "objective": type(objective).__name__,
        "optimizer": type(optimizer).__name__,
        "parameters of the optimizer": [[list(p.shape) for p in group["params"]] for group in optimizer.param_groups],
        "device": str(device_of(model).type),
    }


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


def _is_odd(value: Tensor | None) -> bool:
    return value is not None and value.is_floating_point() and not bool(value.isfinite().all())


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _bytes(value: Tensor) -> Any:
    return value.reshape(-1).view(torch.uint8).numpy()


def digest_of(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """The hash of a file's tensors and metadata, without the hash itself among them."""
    digest = hashlib.sha256(json.dumps({k: v for k, v in metadata.items() if k != "sha256"}, sort_keys=True).encode())
    for key in sorted(tensors):
        value = tensors[key]
        digest.update(f"{key} {value.dtype} {list(value.shape)}".encode())
        if value.numel():
            digest.update(_bytes(value))
    return digest.hexdigest()
