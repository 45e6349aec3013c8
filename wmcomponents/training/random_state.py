"""The states of all generators that decide what a run draws next."""

import functools
import hashlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

MOVED = "this run began on another kind of device: it goes on on {} with all it has learnt, but with other noise."


def random_states(model: nn.Module, generators: Mapping[str, torch.Generator]) -> dict[str, Tensor]:
    """The states of these generators and of torch's global ones, by name.

    Args:
        model: on whose device is drawn.
        generators: by name.
    """
    states = {"torch": torch.get_rng_state(), **{name: one.get_state() for name, one in generators.items()}}
    device = device_of(model)
    return {**states, "cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else states


def prepared_random(
    saved: Mapping[str, Tensor], model: nn.Module, generators: Mapping[str, torch.Generator], began: Any
) -> tuple[list[Callable[[], Any]], list[str]]:
    """What puts every generator where it was, and in words what cannot be such a state.

    The states of two kinds of devices have nothing in common: a generator on another kind is seeded from the saved one.

    Args:
        saved: the states by name.
        model: see :func:`random_states`.
        generators: get them.
        began: kind of the device on which they were saved, if known.
    """
    device = device_of(model)
    own = random_states(model, generators)
    is_moved = began not in (None, device.type) or ("cuda" in saved) != ("cuda" in own)
    words = [f"it lacks rng/{name}" for name in own if name not in saved and name != "cuda"]
    words += [f"it has rng/{name}" for name in saved if name not in own and name != "cuda"]
    restore: list[Callable[[], Any]] = []
    for name, state in saved.items():
        if name in own:
            try:
                restore.append(_restoring(name, state, generators.get(name), device, is_moved=is_moved))
            except ValueError as error:
                words.append(str(error))
    if is_moved and not words:
        restore.append(lambda: warnings.warn(MOVED.format(device.type), stacklevel=4))
    return restore, words


def random_of_rank(
    tensors: Mapping[str, Tensor], rank: int, model: nn.Module, generators: Mapping[str, torch.Generator], began: Any
) -> tuple[list[Callable[[], Any]], list[str]]:
    """What :func:`prepared_random` gives, for a process that is not the first.

    Args:
        tensors: of the whole bundle.
        rank: of this process.
        model: see :func:`random_states`.
        generators: get their states, or seeds where fewer processes wrote the bundle.
        began: kind of the device on which they were saved, if known.
    """
    prefix = f"rank {rank}/"
    saved = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    if saved:
        return prepared_random(saved, model, generators, began)
    seeds = {name: (_seed_of(state) + rank) % 2**63 for name, state in _first_states(tensors).items()}
    restore: list[Callable[[], Any]] = [
        functools.partial(generator.manual_seed, seeds[name]) for name, generator in generators.items()
    ]
    return [*restore, functools.partial(torch.manual_seed, seeds["torch"])], []


def _first_states(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix("rng/"): value for key, value in tensors.items() if key.startswith("rng/")}


def _restoring(
    name: str, state: Tensor, generator: torch.Generator | None, device: torch.device, *, is_moved: bool
) -> Callable[[], Any]:
    """What puts one generator where it was.

    Raises:
        ValueError: if that is no state of such a generator.
    """
    kind = device if name == "cuda" else torch.device("cpu") if generator is None else generator.device
    try:
        torch.Generator(kind).set_state(state)
    except (RuntimeError, TypeError) as error:
        if generator is not None and is_moved and state.dtype == torch.uint8 and state.ndim == 1:
            return functools.partial(generator.manual_seed, _seed_of(state))
        raise ValueError(f"rng/{name} is no state of a generator on {kind.type} ({error})") from error
    return functools.partial(_setter(name, generator, device), state)


def _setter(name: str, generator: torch.Generator | None, device: torch.device) -> Callable[[Tensor], Any]:
    """What sets the state of a generator: of the one that is given, or of torch's own for a device."""
    if generator is not None:
        return generator.set_state
    return torch.set_rng_state if name == "torch" else lambda value: torch.cuda.set_rng_state(value, device)


def _seed_of(state: Tensor) -> int:
    """A seed that is the same for the same state."""
    return int.from_bytes(hashlib.sha256(state.numpy().tobytes()).digest()[:7], "little")


def device_of(model: nn.Module) -> torch.device:
    """Where a model's parameters are."""
    return next((value.device for value in model.parameters()), torch.device("cpu"))
