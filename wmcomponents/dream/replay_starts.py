"""Where dreams begin in real data: the filter's states along real sequences."""

from collections.abc import Callable
from typing import cast

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

from wmcomponents._arguments import whole
from wmcomponents.data.fit import check_data
from wmcomponents.dream.starts import PoolStarts, Starts, length_of, model_device
from wmcomponents.functional.arrival import previous_action
from wmcomponents.nn.mode import EvalMode
from wmcomponents.world_model import State, WorldModel


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

    def refresh(self, seed: int | None = None) -> "ReplayStarts":
        """Fill the pool anew, in bulk, with the model as it is now. Returns itself.

        Args:
            seed: of the filter's noise from here on; the noise goes on if not given.
        """
        if seed is not None:
            self._generator = torch.Generator(model_device(self._model)).manual_seed(seed)
        self._pool = self._filled()
        return self

    @property
    def pool(self) -> State:
        """The states of the pool, ``[pool_size, ...]``; it is filled first if it is empty."""
        return self._current().pool

    def sample(self, count: int, generator: torch.Generator, rows: Tensor | None = None) -> State:
        """Random rows of the pool, ``[count, ...]``; it is filled first if it is empty."""
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
            count += length_of(chunks[-1])
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
            count += length_of(chunk)
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
    sequences = model.relabelled(sequences.to(device))
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
