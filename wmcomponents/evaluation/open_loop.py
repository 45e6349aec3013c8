"""Open-loop dreams along real data: filter a real prefix, then imagine with the real actions and never look again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import NamedTuple, cast

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor

from wmcomponents.dream.replay_starts import last_states
from wmcomponents.dream.starts import model_device
from wmcomponents.nn.mode import EvalMode
from wmcomponents.world_model import Observation, State, WorldModel


class OpenLoopStep(NamedTuple):
    """The k-th imagined step beside what really happened; N = B * samples rows, the samples of a sequence side by side.

    Attributes:
        k: 1, 2, ...: how many steps ago the model last saw something real.
        observation: what the model shows, ``[N, ...]``; ``None`` if it has no decoder.
        reward: ``[N, 1]``; ``None`` if it predicts none.
        cont: P(not terminated), ``[N, 1]``; ``None`` if it predicts none.
        transition: the real transition that the step imitates, ``[B]`` in TorchRL's layout.
        alive: bool ``[B]``: whether the real episode of the prefix was still running when the step began.
    """

    k: int
    observation: Observation | None
    reward: Tensor | None
    cont: Tensor | None
    transition: TensorDictBase
    alive: Tensor


@dataclass(frozen=True)
class Comparison:
    """One real episode beside its open-loop dreams, as arrays; S dreams of K steps after a prefix of P observations.

    Attributes:
        real: observations, ``[P + K, ...]`` by key; the dreams start at the last of the prefix, index P - 1.
        dream: what the model shows, ``[S, K + 1, ...]`` by key, from the start on; empty if it has no decoder.
        real_reward: ``[K]``.
        dream_reward: ``[S, K]``; ``None`` if the model predicts none.
        dream_cont: P(not terminated) in each step, ``[S, K]``; ``None`` if the model predicts none.
        terminated: whether the real episode ended with a termination in its last step.
        burn_in: P.
    """

    real: dict[str, np.ndarray]
    dream: dict[str, np.ndarray]
    real_reward: np.ndarray
    dream_reward: np.ndarray | None
    dream_cont: np.ndarray | None
    terminated: bool
    burn_in: int

    @property
    def steps(self) -> int:
        """K, the number of imagined steps."""
        return len(self.real_reward)

    def dream_end(self, sample: int = 0) -> int | None:
        """The first step (1..K) in which a dream is more likely to end than not; ``None`` if there is none."""
        if self.dream_cont is None:
            return None
        likely = np.flatnonzero(self.dream_cont[sample] < 0.5)
        return int(likely[0]) + 1 if len(likely) else None


def open_loop(
    model: WorldModel,
    sequences: TensorDictBase,
    *,
    burn_in: int,
    horizon: int,
    samples: int = 1,
    generator: torch.Generator | None = None,
) -> Iterator[OpenLoopStep]:
    """Dream along real sequences.

    Args:
        model: any world model.
        sequences: ``[B, T]`` in TorchRL's layout, T at least ``burn_in - 1 + horizon``; may run over episode ends.
        burn_in: real observations that the filter sees, at least 1.
        horizon: steps to imagine after them.
        samples: dreams from each prefix, each with its own noise.
        generator: of the noise; ``None`` takes the mode of every step.

    Yields:
        One :class:`OpenLoopStep` for k = 1..horizon.

    Raises:
        ValueError: if a count is below 1, or the sequences are too short or have no batch.
        KeyError: if the sequences lack a key.
    """
    _check(model, sequences, burn_in, horizon, samples)
    sequences = model.relabelled(sequences.to(model_device(model)))
    with EvalMode(model), torch.no_grad():
        state = _filtered(model, sequences, burn_in, samples, generator)
        yield from _imagined(model, state, sequences, burn_in, horizon, samples, generator)


def compare(
    model: WorldModel,
    sequence: TensorDictBase,
    *,
    burn_in: int,
    horizon: int,
    samples: int = 1,
    generator: torch.Generator | None = None,
) -> Comparison:
    """One real sequence beside its dreams, for images and videos; it stops where the real episode ends.

    Args:
        model: any world model.
        sequence: ``[T]`` in TorchRL's layout, T at least ``burn_in - 1 + horizon``; the prefix should
            lie in one episode.
        burn_in: see :func:`open_loop`.
        horizon: see :func:`open_loop`; fewer steps if the episode ends before.
        samples: see :func:`open_loop`.
        generator: see :func:`open_loop`.

    Raises:
        ValueError, KeyError: see :func:`open_loop`.
    """
    if sequence.batch_dims != 1:
        raise ValueError(f"compare takes one sequence with batch size [T]; got {tuple(sequence.batch_size)}.")
    rows = sequence.unsqueeze(0)
    _check(model, rows, burn_in, horizon, samples)
    rows = model.relabelled(rows.to(model_device(model)))
    keys = [str(key) for key in model.observation_spec.keys()]
    with EvalMode(model), torch.no_grad():
        state = _filtered(model, rows, burn_in, samples, generator)
        begun = model.decode(state) if "decode" in model.capabilities else {}
        steps = _imagined(model, state, rows, burn_in, horizon, samples, generator)
        seen = list(takewhile(lambda step: bool(step.alive), steps))
    following = [step.transition["next"][0] for step in seen]
    real, dream = {}, {}
    for key in keys:
        real[key] = np.stack([_array(value) for value in (*sequence[key][:burn_in], *(one[key] for one in following))])
        if begun:
            shown = [begun[key], *(cast(Observation, step.observation)[key] for step in seen)]
            dream[key] = np.stack([_array(value) for value in shown], 1)
    return Comparison(
        real=real,
        dream=dream,
        real_reward=np.array([float(one["reward"]) for one in following]),
        dream_reward=_columns([step.reward for step in seen]),
        dream_cont=_columns([step.cont for step in seen]),
        terminated=bool(following) and bool(following[-1]["terminated"]),
        burn_in=burn_in,
    )


def longest(sequences: TensorDictBase, *, burn_in: int, horizon: int) -> int:
    """The row of ``[B, T]`` sequences whose episode runs longest after an unbroken prefix; the first of several.

    Args:
        sequences: in TorchRL's layout.
        burn_in: length of the prefix.
        horizon: steps after the prefix that count.
    """
    length = burn_in - 1 + horizon
    broken = torch.zeros(sequences.batch_size[0], length, dtype=torch.bool)
    broken[:, 1:] = (sequences["is_init"][:, 1:length] | sequences["next", "done"][:, : length - 1]).squeeze(-1).cpu()
    return int((~broken).long().cumprod(1).sum(1).argmax())


def _filtered(
    model: WorldModel, sequences: TensorDictBase, burn_in: int, samples: int, generator: torch.Generator | None
) -> State:
    """The filter's state after the prefix, ``[B * samples, ...]``."""
    prefix = cast(TensorDictBase, sequences[:, :burn_in])
    states = last_states(model, prefix, generator=generator)
    return {key: value.repeat_interleave(samples, 0) for key, value in states.items()}


def _imagined(
    model: WorldModel,
    state: State,
    sequences: TensorDictBase,
    burn_in: int,
    horizon: int,
    samples: int,
    generator: torch.Generator | None,
) -> Iterator[OpenLoopStep]:
    source = None if generator is None else model.noise_source("imagine")
    decodes = "decode" in model.capabilities
    batch = sequences.batch_size[0]
    alive = torch.ones(batch, dtype=torch.bool, device=sequences["is_init"].device)
    for k in range(1, horizon + 1):
        index = burn_in + k - 2
        transition = cast(TensorDictBase, sequences[:, index])
        if k > 1:
            ended = sequences["next", "done"][:, index - 1] | transition["is_init"]
            alive = alive & ~ended.squeeze(-1)
        action = transition["action"].repeat_interleave(samples, 0)
        noise = None if source is None or generator is None else source((batch * samples,), generator, action.device)
        state, reward, cont = model.imagine(state, action, noise)
        observation = model.decode(state) if decodes else None
        yield OpenLoopStep(k, observation, reward, cont, transition, alive)


def _check(model: WorldModel, sequences: TensorDictBase, burn_in: int, horizon: int, samples: int) -> None:
    for name, count in (("burn_in", burn_in), ("horizon", horizon), ("samples", samples)):
        if count < 1:
            raise ValueError(f"{name} is at least 1; got {count}.")
    if sequences.batch_dims != 2:
        raise ValueError(f"real sequences have the batch size [B, T]; got {tuple(sequences.batch_size)}.")
    needed = burn_in - 1 + horizon
    if sequences.batch_size[1] < needed:
        raise ValueError(
            f"a burn-in of {burn_in} and a horizon of {horizon} need sequences of {needed} steps; these have "
            f"{sequences.batch_size[1]}. Sample longer ones, or shorten the horizon."
        )
    shown = [str(key) for key in model.observation_spec.keys()]
    keys = [*shown, "action", "is_init", *(("next", key) for key in (*shown, "reward", "terminated", "done"))]
    missing = [key for key in keys if sequences.get(key, None) is None]
    if missing:
        raise KeyError(f"the sequences lack {missing}; sample them from a buffer made by data.make_replay.")


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def _columns(values: Sequence[Tensor | None]) -> np.ndarray | None:
    """Numbers ``[N, 1]`` of each step as ``[N, K]``; ``None`` where there are none."""
    there = [_array(value[:, 0]) for value in values if value is not None]
    return np.stack(there, 1) if there else None
