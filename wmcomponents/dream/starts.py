"""Where dreams begin: start states as an object that every adapter shares."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import chain
from typing import cast

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

from wmcomponents._arguments import whole
from wmcomponents.data.fit import check_data
from wmcomponents.dream.checks import check_finite_states
from wmcomponents.functional.arrival import previous_action
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
        """Imagine ``steps`` steps from the initial state."""
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
        self._size = _length(self.pool)

    def __len__(self) -> int:
        return self._size

    def sample(self, count: int, generator: torch.Generator, rows: Tensor | None = None) -> State:
        """Gather ``count`` random rows of the pool."""
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
        self._size = _length(self._states)

    def sample(self, count: int, generator: torch.Generator, rows: Tensor | None = None) -> State:
        """The first ``count`` states, cycling."""
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
        self._size = _length(self._states)

    def __len__(self) -> int:
        return self._size

    def sample(self, count: int, generator: torch.Generator, rows: Tensor | None = None) -> State:
        """The states of the episodes that begin; without ``rows``, the first ``count``."""
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
        """Sample every source, and take each row from the one it drew."""
        weights = self._weights.to(generator.device)
        choice = torch.multinomial(weights, count, replacement=True, generator=generator)
        state: State = {}
        for number, source in enumerate(self._sources):
            drawn = source.sample(count, generator, rows) if source.ordered else source.sample(count, generator)
            state = where_rows(choice == number, drawn, state) if state else drawn
        return state


class ReplayStarts(Starts):
    """Starts from real data: the filter burns in over a real prefix, and its last states are the pool.

    Args:
        model: the world model whose filter is used.
        sample_sequences: draws real sequences: a callable that returns a TensorDict ``[B, T]`` in TorchRL's layout,
            such as ``replay.sample`` of a buffer made by ``data.make_replay``.
        pool_size: how many states the pool holds.
        burn_in: how many steps of each sequence only warm the state up; every later step gives a start. The default,
            ``None``, keeps the last state of each sequence only.
        seed: of the noise that the filter consumes. By default the first dream that begins here decides it, by its own
            seed; and fresh entropy where the pool is filled before any dream begins.

    Raises:
        TypeError: if ``sample_sequences`` cannot be called.
        ValueError: when the pool is filled, if ``burn_in`` leaves no step of the sequences.
        EmptyStartsError: when the pool is filled, if nothing was sampled.
    """

    def __init__(
        self,
        model: WorldModel,
        sample_sequences: Callable[[], TensorDictBase],
        *,
        pool_size: int = 1024,
        burn_in: int | None = None,
        seed: int | None = None,
    ) -> None:
        if not callable(sample_sequences) or isinstance(sample_sequences, nn.Module):  # an environment can be called
            raise TypeError(
                f"ReplayStarts is given a function that draws real sequences, such as replay.sample; got a "
                f"{type(sample_sequences).__name__}."
            )
        self._model = model
        self._sample_sequences = sample_sequences
        self._pool_size = whole("pool_size", pool_size, 1, "a number of states, at least 1")
        self._burn_in = None if burn_in is None else whole("burn_in", burn_in, 0, "a number of steps, or None")
        self._generator: torch.Generator | None = None
        if seed is not None:
            self._generator = torch.Generator(model_device(model)).manual_seed(seed)
        self._pool: PoolStarts | None = None

    def refresh(self) -> "ReplayStarts":
        """Fill the pool anew, in bulk, with the model as it is now. Returns itself."""
        self._pool = self._filled()
        return self

    @property
    def pool(self) -> State:
        """The states of the pool, ``[pool_size, ...]``; it is filled first if it is empty."""
        return self._current().pool

    def sample(self, count: int, generator: torch.Generator, rows: Tensor | None = None) -> State:
        """Gather ``count`` random rows of the pool, filling it first if it is empty."""
        if self._generator is None:
            seed = torch.randint(2**62, (), generator=generator, device=generator.device)
            self._generator = torch.Generator(model_device(self._model)).manual_seed(int(seed))
        return self._current().sample(count, generator)

    def _current(self) -> PoolStarts:
        if self._pool is None:
            self._pool = self._filled()
        return self._pool

    def _filled(self) -> PoolStarts:
        if self._generator is None:
            self._generator = torch.Generator(model_device(self._model))
            self._generator.seed()
        chunks: list[State] = []
        count = 0
        while self._burn_in is None and count < self._pool_size:
            chunks.append(last_states(self._model, self._sample_sequences(), generator=self._generator))
            count += _length(chunks[-1])
        while count < self._pool_size:
            states = filtered_states(self._model, self._sample_sequences(), generator=self._generator)
            length = next(iter(states.values())).shape[1]
            first = cast(int, self._burn_in)
            if first >= length:
                raise ValueError(
                    f"burn_in={self._burn_in} leaves no step of sequences of length {length}; use less than {length}."
                )
            chunk = {key: value[:, first:].flatten(0, 1) for key, value in states.items()}
            chunks.append(chunk)
            count += _length(chunk)
        return PoolStarts({key: torch.cat([chunk[key] for chunk in chunks])[: self._pool_size] for key in chunks[0]})


def filtered_states(model: WorldModel, sequences: TensorDictBase, *, generator: torch.Generator | None = None) -> State:
    """The filter's states along real sequences, from the state before anything was seen.

    Args:
        model: the world model.
        sequences: ``[B, T]`` in TorchRL's layout: observation keys, ``action``, ``is_init``.
        generator: of the filter's noise; ``None`` takes the mode.

    Returns:
        s_0..s_{T-1}, ``[B, T, ...]``.
    """
    return _filtered(model.observe_sequence, model, sequences, generator)


def last_states(model: WorldModel, sequences: TensorDictBase, *, generator: torch.Generator | None = None) -> State:
    """The last of :func:`filtered_states`, ``[B, ...]``; a model with large states need not hold the others.

    Args:
        model: the world model.
        sequences: ``[B, T]``, T at least 1.
        generator: of the filter's noise.

    Raises:
        ValueError: for sequences without a step.
    """
    if sequences.batch_size[1] < 1:
        raise ValueError(f"a start needs at least one real step; got sequences of length {sequences.batch_size[1]}.")
    return _filtered(model.observe_last, model, sequences, generator)


@torch.no_grad()
def _filtered(
    observe: Callable[..., State], model: WorldModel, sequences: TensorDictBase, generator: torch.Generator | None
) -> State:
    device = model_device(model)
    check_data(model, sequences)
    sequences = sequences.to(device)
    noise = None if generator is None else model.noise_source("observe")(sequences.batch_size, generator)
    # Of what came before the first frame nothing is known, wherever in its episode the sequence begins: a model that
    # reads transitions must not be told one from an empty frame to this one.
    is_init = sequences["is_init"].clone()
    is_init[:, :1] = True
    with EvalMode(model):
        return observe(
            model.initial_state(sequences.batch_size[:1], device),
            previous_action(sequences["action"]),
            {str(key): cast(Tensor, sequences[key]) for key in model.observation_spec.keys()},
            is_init,
            noise,
        )


def _picked(states: State, index: Tensor, device: torch.device) -> State:
    return {key: value[index.to(value.device)].to(device) for key, value in states.items()}


def _checked(states: State) -> State:
    """Given start states, none of them broken and without their graph."""
    strange = {key: type(value).__name__ for key, value in states.items() if not isinstance(value, Tensor)}
    if strange:
        raise TypeError(f"start states are tensors [N, ...] by the names of the model's state; got {strange}.")
    _length(states)
    check_finite_states(states, "the start state", "leave those out, or filter with a model whose weights are finite.")
    return {key: value.detach() for key, value in states.items()}


def _length(states: State) -> int:
    lengths = {value.shape[0] for value in states.values()}
    if len(lengths) != 1 or lengths == {0}:
        raise EmptyStartsError(
            f"start states need one common, positive number of rows; got {sorted(lengths) or 'no tensors'}. "
            f"Collect data first, or start from PriorStarts(model)."
        )
    return lengths.pop()
