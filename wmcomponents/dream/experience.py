"""What an agent may learn from: real sequences, the states that the filter makes of them, and dreams from there."""

from collections.abc import Callable, Mapping
from typing import cast

import torch
from tensordict import NestedKey, TensorDict, TensorDictBase
from torch import Tensor

from wmcomponents.dream.replay_starts import ReplayStarts
from wmcomponents.dream.starts import PriorStarts, Starts, model_device
from wmcomponents.nn.mode import EvalMode
from wmcomponents.objectives.arrivals import arrivals_from
from wmcomponents.world_model import WorldModel, keys_of

Rewrite = Callable[[Tensor, Mapping[NestedKey, Tensor], Tensor], None]
"""Keeps entries beside stored steps, by their index, where it is said so (``SequenceReplayBuffer.rewrite``)."""


class NoExperienceError(ValueError):
    """An agent asks for real sequences, and there are none."""


class Experience:
    """Real sequences and a world model: whatever an agent learns from, it asks for here.

    Args:
        model: the world model.
        sample: draws real sequences ``[B, T]`` in TorchRL's layout, such as ``replay.sample``; ``None``: there are no
            real data, only the model.
        starts: where dreams begin; the filter's states along the data if not given, or the model's prior without data.
        rewrite: keeps other entries beside stored steps, such as ``replay.rewrite``; ``None`` keeps none.
        seed: of the filter's noise and of the starts.

    Attributes:
        starts: where dreams begin.
        with_data: whether there are real data.
        rewrite: ``rewrite(sequences["index"], entries, where)`` keeps entries ``[B, T, ...]`` beside sequences that
            were given, where bool ``[B, T]`` says so; ``None`` where the data stay as they are.

    Example:
        >>> from torchrl.data import Composite, OneHot, Unbounded
        >>> from wmcomponents.models import DreamerV3, DreamerV3Config
        >>> model = DreamerV3(DreamerV3Config.tiny(), Composite(observation=Unbounded(4)), OneHot(2))
        >>> sorted(Experience(model).states(8).keys())
        ['deter', 'stoch']
    """

    def __init__(
        self,
        model: WorldModel,
        sample: Callable[[], TensorDictBase] | None = None,
        *,
        starts: Starts | None = None,
        rewrite: Rewrite | None = None,
        seed: int = 0,
    ) -> None:
        self.model, self._sample, self.rewrite = model, sample, rewrite
        self.generator = torch.Generator(model_device(model)).manual_seed(seed)
        self._batch: TensorDictBase | None = None
        if starts is None:
            starts = PriorStarts(model) if sample is None else ReplayStarts(model, self.sequences, pool_size=1024)
        self.starts = starts
        self.with_data = sample is not None

    def offer(self, batch: TensorDictBase) -> None:
        """Let the next question be answered from a batch that is at hand, that which the model has just learned from.

        Args:
            batch: real sequences ``[B, T]``.
        """
        self._batch = batch

    def renew(self) -> None:
        """The model has changed: dreams of :attr:`starts` begin in states of its filter as it is now."""
        if isinstance(self.starts, ReplayStarts):
            draws = self.generator
            self.starts.refresh(int(torch.randint(2**62, (), generator=draws, device=draws.device)))

    def sequences(self) -> TensorDictBase:
        """Real sequences ``[B, T]`` in TorchRL's layout: the batch on offer, or freshly drawn ones.

        Raises:
            NoExperienceError: if there are no real data.
        """
        if self._batch is not None:
            batch, self._batch = self._batch, None
            return batch
        if self._sample is None:
            raise NoExperienceError(
                "this agent learns from real sequences beside its dreams: pass the data that the model was trained on "
                "(replay=..., or `--data DIR`)."
            )
        return self._sample()

    def states(self, rows: int | None = None) -> TensorDict:
        """States to dream from: every arrival of real sequences, ``[B, L]``; without data, ``rows`` starts.

        Beside the model's state: ``reward`` received on arriving there, ``terminated`` and ``ended``, ``[B, L, 1]``.

        Args:
            rows: how many starts where there are no data.
        """
        if not self.with_data or rows is not None:
            count = 256 if rows is None else rows
            return TensorDict(dict(self.starts.sample(count, self.generator)), [count])
        return arrival_states(self.model, self.sequences(), generator=self.generator)


@torch.no_grad()
def arrival_states(
    model: WorldModel, sequences: TensorDictBase, *, generator: torch.Generator | None = None
) -> TensorDict:
    """The filter's states at every arrival of real sequences, with what is known of each.

    The observation in which an episode ended is an arrival too, so that a value can be learned of it.

    Args:
        model: the world model.
        sequences: ``[B, T]`` in TorchRL's layout.
        generator: of the filter's noise; ``None`` takes the mode.

    Returns:
        ``[B, T + 1]``: the state keys, and ``reward``, ``terminated`` and ``ended`` (``[B, T + 1, 1]``: received on
        arriving; whether the episode ended there for good; whether it ended there, or the data do).
    """
    device = model_device(model)
    arrivals = arrivals_from(model.relabelled(sequences.to(device)), keys_of(model.observation_spec))
    is_init = arrivals.is_init.clone()
    is_init[:, :1] = True
    noise = None if generator is None else model.noise_source("observe")(is_init.shape[:-1], generator)
    with EvalMode(model):
        states = model.observe_sequence(
            model.initial_state(is_init.shape[:1], device), arrivals.action, arrivals.observation, is_init, noise
        )
    ended = torch.ones_like(is_init)
    ended[:, :-1] = arrivals.is_init[:, 1:]
    known = {"reward": arrivals.reward, "terminated": arrivals.terminated, "ended": ended | arrivals.terminated}
    return TensorDict({**cast(dict, states), **known}, list(is_init.shape[:-1]))
