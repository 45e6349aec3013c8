"""Where dreams begin: start states as an object that every adapter shares."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor

from wmcomponents.dream.checks import check_finite_states
from wmcomponents.functional.broadcast import aligned
from wmcomponents.nn.mode import EvalMode
from wmcomponents.world_model import State, WorldModel


class EmptyStartsError(ValueError):
    """There is no state to start a dream from."""


def model_device(model: WorldModel) -> torch.device:
    """Where a model stands: the device of its first parameter or buffer, else the CPU."""
    tensor = next(chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if tensor is None else tensor.device


def where_rows(mask: Tensor, new: State, old: State) -> State:
    """Row by row, ``new`` where the mask is true and ``old`` elsewhere.

    Args:
        mask: bool ``[N]`` or ``[N, 1]``.
        new: states ``[N, ...]``.
        old: states ``[N, ...]``.
    """
    return {key: torch.where(aligned(mask, value), new[key], value) for key, value in old.items()}


class Starts(ABC):
    """A source of start states.

    Attributes:
        ordered: whether :meth:`sample` reads which rows begin; a dream tells it then, and otherwise spares the work.
    """

    ordered: bool = False

    @abstractmethod
    def sample(self, count: int, generator: torch.Generator, rows: Tensor | None = None) -> State:
        """``count`` start states, ``[count, ...]`` each, on the generator's device; fresh tensors.

        Args:
            count: number of rows.
            generator: of whatever is drawn.
            rows: for each row the number of the episode that begins there, counted from 0 since the dream was seeded,
                and -1 where none begins (some state has to come for such a row too, and is not used); int64
                ``[count]``. Passed to sources that are :attr:`ordered`, and to no other.
        """


class PriorStarts(Starts):
    """Starts dreamt by the model itself: the prior over first states.

    From the state before anything was seen, the model imagines one step under the null action. For a model whose filter
    is trained with episode starts inside its sequences (the RSSM family), that is its distribution of first states.

    Args:
        model: the world model.
        steps: how many steps to imagine; 0 starts from ``initial_state`` itself.
    """

    def __init__(self, model: WorldModel, steps: int = 1) -> None:
        self._model = model
        self._noise = model.noise_source("imagine")
        self._steps = steps

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator, rows: Tensor | None = None) -> State:
        """``steps`` imagined steps from the initial state, ``[count, ...]``."""
        device = generator.device
        state = self._model.initial_state((count,), device)
        action = self._model.null_action((count,), device)
        with EvalMode(self._model):
            for _ in range(self._steps):
                state = self._model.imagine(state, action, self._noise((count,), generator)).state
        return state


class PoolStarts(Starts):
    """Starts drawn uniformly, with replacement, from a pool of states: a reset is a gather.

    Args:
        pool: states ``[N, ...]``.

    Raises:
        EmptyStartsError: if the pool holds no state.
        NotFiniteError: if a state holds a NaN or an infinity.
    """

    def __init__(self, pool: State) -> None:
        self.pool = _checked(pool)
        self._size = length_of(self.pool)

    def __len__(self) -> int:
        return self._size

    def sample(self, count: int, generator: torch.Generator, rows: Tensor | None = None) -> State:
        """Random rows of the pool, ``[count, ...]``."""
        device = generator.device
        index = torch.randint(self._size, (count,), generator=generator, device=device)
        for key, value in self.pool.items():
            if value.device != device:
                self.pool[key] = value.to(device)
        return {key: value.index_select(0, index) for key, value in self.pool.items()}


class FixedStarts(Starts):
    """Given states, one for each row: row i of a dream begins at state i mod len, every time it begins.

    Args:
        states: states ``[N, ...]``.

    Raises:
        EmptyStartsError, NotFiniteError: as :class:`PoolStarts`.
    """

    def __init__(self, states: State) -> None:
        self._states = _checked(states)
        self._size = length_of(self._states)

    def sample(self, count: int, generator: torch.Generator, rows: Tensor | None = None) -> State:
        """The first states in order, cycling, ``[count, ...]``."""
        return _picked(self._states, torch.arange(count) % self._size, generator.device)


class OrderedStarts(Starts):
    """Given states, one after another: episode k of a dream begins at state k mod len.

    Episodes are counted as they begin, over all rows and in the order of the rows, from the time that the dream was
    seeded. So an evaluation goes through its start states once, whatever the lengths of the episodes.

    Args:
        states: states ``[N, ...]``.

    Raises:
        EmptyStartsError, NotFiniteError: as :class:`PoolStarts`.
    """

    ordered = True

    def __init__(self, states: State) -> None:
        self._states = _checked(states)
        self._size = length_of(self._states)

    def __len__(self) -> int:
        return self._size

    def sample(self, count: int, generator: torch.Generator, rows: Tensor | None = None) -> State:
        """The states of the episodes that begin, ``[count, ...]``; without ``rows``, the first in order."""
        numbers = torch.arange(count) if rows is None else rows
        return _picked(self._states, numbers % self._size, generator.device)


class MixtureStarts(Starts):
    """Each row draws its source first.

    Of a source that is taken in order, a row takes the state of its episode's number; those of episodes that begin
    elsewhere are passed over.

    Args:
        sources: the sources.
        weights: their relative weights, non-negative; equal if not given.
    """

    def __init__(self, sources: Sequence[Starts], weights: Sequence[float] | None = None) -> None:
        weights = [1.0] * len(sources) if weights is None else list(weights)
        if not sources or len(weights) != len(sources) or min(weights) < 0 or sum(weights) <= 0:
            raise ValueError(
                f"a mixture needs one non-negative weight for each source, not all zero; got {len(sources)} sources "
                f"and weights {weights}."
            )
        self._sources = list(sources)
        self._weights = torch.tensor(weights, dtype=torch.float32)
        self.ordered = any(source.ordered for source in self._sources)

    def sample(self, count: int, generator: torch.Generator, rows: Tensor | None = None) -> State:
        """Every source sampled, each row taken from the one it drew, ``[count, ...]``."""
        weights = self._weights.to(generator.device)
        choice = torch.multinomial(weights, count, replacement=True, generator=generator)
        state: State = {}
        for number, source in enumerate(self._sources):
            drawn = source.sample(count, generator, rows) if source.ordered else source.sample(count, generator)
            state = where_rows(choice == number, drawn, state) if state else drawn
        return state


def _picked(states: State, index: Tensor, device: torch.device) -> State:
    return {key: value[index.to(value.device)].to(device) for key, value in states.items()}


def _checked(states: State) -> State:
    """Given start states, none of them broken and without their graph."""
    strange = {key: type(value).__name__ for key, value in states.items() if not isinstance(value, Tensor)}
    if strange:
        raise TypeError(f"start states are tensors [N, ...] by the names of the model's state; got {strange}.")
    length_of(states)
    check_finite_states(states, "the start state", "leave those out, or filter with a model whose weights are finite.")
    return {key: value.detach() for key, value in states.items()}


def length_of(states: State) -> int:
    """The common number of rows of start states, ``[N, ...]`` each.

    Raises:
        EmptyStartsError: if there is none.
    """
    lengths = {value.shape[0] for value in states.values()}
    if len(lengths) != 1 or lengths == {0}:
        raise EmptyStartsError(
            f"start states need one common, positive number of rows; got {sorted(lengths) or 'no tensors'}. "
            f"Collect data first, or start from PriorStarts(model)."
        )
    return lengths.pop()
