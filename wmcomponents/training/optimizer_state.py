"""Whether what a file says is the state of an optimiser can be that, before anything of it is loaded."""

import collections
import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

CHANGEABLE = ("lr", "warmup")
"""Options that a run may be given anew when it goes on."""

SIDES: tuple[int, ...] = (2, 3, 5, 7, 11, 13)
"""Of the small parameters on which an optimiser shows what it keeps."""


def options_of(optimizer: Optimizer) -> list[dict[str, Any]]:
    """The options of each parameter group."""
    return [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]


def merged_groups(
    saved: Any, optimizer: Optimizer, was: list[dict[str, Any]] | None, now: list[dict[str, Any]] | None
) -> tuple[list[dict[str, Any]], list[str]]:
    """Parameter groups to load, and in words what does not fit.

    Args:
        saved: the groups as read.
        optimizer: gets them.
        was: options of each group when the run began that saved them, if known.
        now: options of each group when this run began, if known. A learning rate or warm-up given anew counts.
    """
    own = optimizer.state_dict()["param_groups"]
    if not isinstance(saved, list) or len(saved) != len(own):
        return [], [f"the optimizer has {len(own)} parameter groups"]
    groups, words = [], []
    for place, (group, mine) in enumerate(zip(saved, own, strict=True)):
        if not isinstance(group, dict) or group.keys() != mine.keys() or group["params"] != mine["params"]:
            words.append(f"parameter group {place} of the optimizer has other entries")
            continue
        taken, faults = _merged(group, mine, _at(was, place), _at(now, place))
        groups.append(taken)
        words += faults
    return groups, words


def _merged(
    group: dict[str, Any], mine: dict[str, Any], was: dict[str, Any] | None, now: dict[str, Any] | None
) -> tuple[dict[str, Any], list[str]]:
    """One group to load, and in words what does not fit; the options of when both runs began, where known."""
    taken, words = dict(mine), []
    for key, value in group.items():
        if key == "params":
            continue
        first, second = (one.get(key, mine[key]) if one else None for one in (was, now))
        if first != second and key not in CHANGEABLE:
            words.append(f"the optimizer's {key} was {first!r}, is {second!r}")
        elif first == second:
            fault, taken[key] = _like(value, mine[key])
            words += [f"the optimizer's {key} cannot be {value!r}"] if fault else []
    return taken, words


def state_faults(entries: Mapping[int, Mapping[str, Any]], optimizer: Optimizer) -> list[str]:
    """In words, what of a saved state cannot be an optimiser's.

    Args:
        entries: of each parameter, by its number: tensors and plain values by name.
        optimizer: gets them.
    """
    params = [p for group in optimizer.param_groups for p in group["params"]]
    shown: dict[int, dict[str, Any] | None] = {}
    words: list[str] = []
    for index, found in entries.items():
        if not 0 <= index < len(params):
            words.append(f"the optimizer has {len(params)} parameters, the file one of number {index}")
            continue
        p = params[index]
        if p.ndim not in shown:
            shown[p.ndim] = _kept(optimizer, p.ndim)
        expected = shown[p.ndim]
        if expected is not None and expected.keys() != found.keys():
            words.append(f"the optimizer keeps {sorted(expected)} of a parameter, the file {sorted(found)}")
            continue
        for name, value in found.items():
            example = None if expected is None else expected[name]
            if not _possible(value, p, example, known=expected is not None):
                words.append(f"{name} of parameter {index} is no state of a parameter {list(p.shape)}")
    return words


def whole_state(optimizer: Optimizer) -> dict[str, Any]:
    """An optimiser's state, as one process would have it. All processes ask at once; each gets the whole.

    Args:
        optimizer: the optimiser.
    """
    from torch.distributed.tensor import DTensor

    def whole(value: Any) -> Any:
        return value.full_tensor() if isinstance(value, DTensor) else value

    found = optimizer.state_dict()
    state = {index: {name: whole(value) for name, value in kept.items()} for index, kept in found["state"].items()}
    return {**found, "state": state}


def own_share(state: Mapping[int, Mapping[str, Any]], optimizer: Optimizer) -> dict[int, dict[str, Any]]:
    """Of an optimiser's state as one process has it, what belongs to this process's shards.

    Args:
        state: tensors and plain values by name, by the number of the parameter.
        optimizer: gets them.
    """
    from torch.distributed.tensor import DTensor, distribute_tensor

    params = [param for group in optimizer.param_groups for param in group["params"]]
    shared: dict[int, dict[str, Any]] = {}
    for index, entries in state.items():
        param = params[index]
        shared[index] = dict(entries)
        if isinstance(param, DTensor):
            for name, value in entries.items():
                if isinstance(value, Tensor) and value.shape == param.shape:
                    moved = value.to(param.device)
                    shared[index][name] = distribute_tensor(
                        moved, param.device_mesh, param.placements, src_data_rank=None
                    )
    return shared


def _at(options: Any, place: int) -> dict[str, Any] | None:
    fits = isinstance(options, list) and place < len(options) and isinstance(options[place], dict)
    return options[place] if fits else None


def _like(value: Any, now: Any) -> tuple[bool, Any]:
    """Whether an option is of another kind than it is now, and its value as it was before JSON made tuples lists."""
    if isinstance(now, (tuple, list)):
        if not isinstance(value, list) or len(value) != len(now):
            return True, now
        parts = [_like(one, other) for one, other in zip(value, now, strict=True)]
        return any(fault for fault, _ in parts), type(now)(part for _, part in parts)
    if _is_number(now):
        sound = _is_number(value) and abs(value) < 2**63 and (math.isfinite(value) or not math.isfinite(now))
        return not sound, value
    return type(value) is not type(now) or (isinstance(now, str) and value != now), value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _kept(optimizer: Optimizer, ndim: int) -> dict[str, Any] | None:
    """What the optimiser keeps of a parameter with so many dimensions, tried on a small one; ``None`` if unknown."""
    p = nn.Parameter(torch.ones(SIDES[:ndim]))
    p.grad = torch.ones_like(p)
    probe = cast(Any, object.__new__(type(optimizer)))
    probe.__dict__.update({key: value for key, value in optimizer.__dict__.items() if key != "step"})
    probe.param_groups = [{**options_of(optimizer)[0], "params": [p]}]
    probe.state = collections.defaultdict(dict)
    for hooks in [name for name in probe.__dict__ if name.endswith("_hooks")]:
        probe.__dict__[hooks] = collections.OrderedDict()
    try:
        type(optimizer).step(probe)
    except Exception:  # an optimiser of any kind may need more than this; then only sizes are compared
        return None
    return dict(probe.state[p])


def _possible(value: Any, p: Tensor, example: Any, known: bool) -> bool:
    """Whether a value may be kept of a parameter, given what is kept of an example where that is known."""
    if not isinstance(value, Tensor):
        return not known or (value is None) == (example is None) and not _like(value, example)[0]
    if known and not isinstance(example, Tensor):
        return example is None  # what is made later, such as a momentum, may be there already
    if example is None:
        sides = {1, *p.shape}
        return value.ndim <= max(2, p.ndim) and all(side in sides for side in value.shape)
    if value.dtype != (p.dtype if example.dtype == torch.get_default_dtype() and example.ndim else example.dtype):
        return False
    if example.ndim == 0:
        return value.ndim == 0 and bool(value.isfinite()) and float(value) >= 0
    # Each side of what is kept is 1 or a side of the parameter: the same one as in the example, whose sides all differ.
    sides = dict(zip(SIDES, p.shape, strict=False))
    return list(value.shape) == [sides.get(side, side) for side in example.shape]
