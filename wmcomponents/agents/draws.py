"""What of an agent's state is chance: the generators that each of several processes has of its own."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from wmcomponents.data.episodes import derived_seed
from wmcomponents.training import Ranks

CPU_BYTES, CUDA_BYTES = len(torch.Generator().get_state()), 16
"""Of a generator's state."""

APART = 1e-3
"""By which share of its norm a tensor may differ between processes, for processors round in their own way."""


def draws_of(state: Any, place: str = "") -> dict[str, Tensor]:
    """The states of generators in an agent's state, by where they stand.

    Args:
        state: of an agent: nested dicts and lists of tensors and plain values.
        place: where it stands itself.
    """
    return {where: value for where, value in _tensors(state, place) if _is_of_a_generator(value)}


def with_draws(state: Any, draws: Mapping[str, Tensor], place: str = "") -> Any:
    """An agent's state with other generators.

    Args:
        state: see :func:`draws_of`.
        draws: what :func:`draws_of` gave.
        place: where the state stands.
    """
    if isinstance(state, Mapping):
        return {key: with_draws(value, draws, f"{place}/{key}") for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return [with_draws(value, draws, f"{place}/{number}") for number, value in enumerate(state)]
    return draws.get(place, state) if isinstance(state, Tensor) else state


def own_draws(state: Any, ranks: Ranks, seed: int) -> dict[str, Tensor]:
    """Generators of an agent's state seeded anew, for a process that is not the first.

    Args:
        state: see :func:`draws_of`.
        ranks: the processes.
        seed: of the run, or of the moment at which it goes on.
    """
    return {
        place: _seeded(len(value), derived_seed(seed, "agent", place, "rank", ranks.rank))
        for place, value in draws_of(state).items()
    }


def _seeded(size: int, seed: int) -> Tensor:
    if size == CUDA_BYTES:  # the seed, and how far it is
        return torch.tensor([seed, 0]).view(torch.uint8)
    return torch.Generator().manual_seed(seed).get_state()


def check_alike(state: Any, ranks: Ranks, name: str) -> None:
    """Refuse an agent whose processes have come apart: one that steps on its own gradients alone.

    Args:
        state: see :func:`draws_of`.
        ranks: the processes.
        name: of the agent, for the error.

    Raises:
        ValueError: if what it has learned is not the same in all processes.
    """
    if ranks.count == 1:
        return
    found = [_shadow(value) for _, value in _tensors(state, "") if value.is_floating_point() and value.numel()]
    own = torch.stack(found) if found else torch.zeros(1, 2, dtype=torch.float64)
    every = [one["own"] for one in ranks.gathered({"own": own})]
    shadow, norm = every[0].unbind(-1)
    if any(bool(((one[:, 0] - shadow).abs() > APART * norm + 1e-12).any()) for one in every):
        raise ValueError(
            f"{name} has not learned the same in all {ranks.count} processes: it does not average its gradients over "
            f"them, or was built from another seed in each. Train it in one process, or step its optimiser behind "
            f"`average_gradients`."
        )


def _shadow(value: Tensor) -> Tensor:
    """Two numbers of a tensor: its projection on a fixed direction, and its norm."""
    numbers = value.detach().flatten().double().cpu()
    direction = torch.arange(1, len(numbers) + 1, dtype=torch.float64).cos()
    return torch.stack([numbers @ direction, numbers.norm()])


def _tensors(state: Any, place: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(state, Tensor):
        yield place, state
    elif isinstance(state, Mapping):
        for key, value in state.items():
            yield from _tensors(value, f"{place}/{key}")
    elif isinstance(state, (list, tuple)):
        for number, value in enumerate(state):
            yield from _tensors(value, f"{place}/{number}")


def _is_of_a_generator(value: Tensor) -> bool:
    return value.dtype == torch.uint8 and value.ndim == 1 and len(value) in (CPU_BYTES, CUDA_BYTES)
