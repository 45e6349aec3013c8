"""What models that carry a transformer's KV cache in their state share: verbs around one step, and checks of specs."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Categorical, OneHot, TensorSpec

from wmcomponents.codecs import RewardDistribution
from wmcomponents.codecs.reward_unit import rewards_in
from wmcomponents.component import Component
from wmcomponents.pretrained import PretrainedModel
from wmcomponents.tokenizers import DeltaTokenizer, ImageTokenizer
from wmcomponents.world_model import Noise, Observation, Prediction, State

T = TypeVar("T", bound=ImageTokenizer | DeltaTokenizer)
D = TypeVar("D", bound=Component)


class KVCachedModel(PretrainedModel):
    """A model whose state has a large entry ``kv_cache``: what it does by steps that write into the one they are given.

    A family writes :meth:`_read`, :meth:`_filtered` and ``imagine_inplace``, the latter two into the cache that they
    are given.
    """

    @abstractmethod
    def _read(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> dict[str, Tensor]:
        """What the filter takes in of a sequence ``[*B, T]``, all at once: by name, ``[*B, T, ...]``.

        Args:
            state: before the sequence, ``[*B]``.
            action: that led to each observation.
            observation: what was seen.
            is_init: where episodes begin.
            noise: z as base noise, or ``None`` for the mode.
        """

    @abstractmethod
    def _filtered(self, state: State, action: Tensor, seen: dict[str, Tensor], is_init: Tensor) -> State:
        """One step of the filter, written into the cache that it is given.

        Args:
            state: before, ``[*B]``.
            action: that led to what was seen.
            seen: as :meth:`_read` gave it, at one time.
            is_init: where episodes begin.
        """

    def observe(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """One step of the filter, of ``[*B]`` rows; see :meth:`WorldModel.observe`."""
        time = is_init.ndim - 1
        shown = {key: value.unsqueeze(time) for key, value in observation.items()}
        drawn = None if noise is None else {key: value.unsqueeze(time) for key, value in noise.items()}
        return self.observe_last(state, action.unsqueeze(time), shown, is_init.unsqueeze(time), drawn)

    def observe_sequence(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """The filter along a sequence ``[*B, T]``, all images encoded at once."""
        states = list(self._along(state, action, observation, is_init, noise))
        return {key: torch.stack([s[key] for s in states], is_init.ndim - 2) for key in states[0]}

    def observe_last(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """The last state of a sequence ``[*B, T]``; the caches of the others are never held at once."""
        for after in self._along(state, action, observation, is_init, noise, keeps=False):
            state = after
        return state

    def imagine(self, state: State, action: Tensor, noise: Noise | None) -> Prediction:
        """One step of the dream, of ``[*B]`` rows; see :meth:`WorldModel.imagine`."""
        return self.imagine_inplace(owned(state), action, noise)

    def _along(
        self,
        state: State,
        action: Tensor,
        observation: Observation,
        is_init: Tensor,
        noise: Noise | None,
        keeps: bool = True,
    ) -> Iterator[State]:
        """The states of a sequence in turn; written into each other where none is kept."""
        time = is_init.ndim - 2
        seen = self._read(state, action, observation, is_init, noise)
        state = owned(state)
        for t in range(is_init.shape[time]):
            now = {key: value.select(time, t) for key, value in seen.items()}
            state = self._filtered(state, action.select(time, t), now, is_init.select(time, t))
            yield state
            state = owned(state) if keeps else state


class CachedTransformerModel(KVCachedModel, Generic[T, D]):
    """A model of tokens: a tokenizer, a transformer over them and over actions, each one choice.

    A family says what its parts are (``class MyModel(CachedTransformerModel[MyTokenizer, MyTransformer])``).

    Attributes:
        tokenizer: what stands between observations and tokens.
        dynamics: the transformer over tokens and actions.
    """

    format_1_states = {"cache": "kv_cache"}
    tokenizer: T
    dynamics: D


class RewardedTransformerModel(CachedTransformerModel[T, D]):
    """Such a model whose actions are choices, and whose transformer tells rewards.

    Attributes:
        rewards: how the transformer's logits tell a reward.
    """

    rewards: RewardDistribution

    def prepare(self, sequences: TensorDictBase) -> None:
        """Warn of rewards that the model does not tell apart."""
        self.rewards.prepare(rewards_in(sequences))

    def action_token(self, action: Tensor) -> Tensor:
        """An action as its number, int64 ``[*B]``; none at all counts as the first.

        Args:
            action: ``[*B, ...]`` as ``action_spec`` says.
        """
        return action.long().argmax(-1) if isinstance(self.action_spec, OneHot) else action.long().clamp_min(0)


def owned(state: State) -> State:
    """The state with a cache of its own, to be written into."""
    return {**state, "kv_cache": state["kv_cache"].clone(memory_format=torch.contiguous_format)}


def rows_of(state: State) -> State:
    """Leading dimensions flattened into one."""
    lead = state["length"].ndim - 1
    return {key: value.reshape(-1, *value.shape[lead:]) for key, value in state.items()}


def choices_of(spec: TensorSpec, family: str) -> int:
    """How many actions there are to choose one of.

    Raises:
        ValueError: if an action is anything else.
    """
    if not isinstance(spec, (OneHot, Categorical)) or len(spec.shape) > (1 if isinstance(spec, OneHot) else 0):
        raise ValueError(
            f"{family} reads an action as one token: one choice (OneHot or Categorical); got a "
            f"{type(spec).__name__} of shape {list(spec.shape)}."
        )
    space: Any = spec.space
    return int(space.n)
