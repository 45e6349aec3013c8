"""Collecting that can be broken off anywhere and goes on as if it had not been: every episode has a seed of its own."""

import hashlib
from collections.abc import Callable
from typing import Any, cast

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torchrl.envs import TransformedEnv
from torchrl.envs.transforms import Transform

from wmcomponents.data.collect import RandomPolicy, RealCollector, TensorDictPolicy


def derived_seed(*what: int | str) -> int:
    """A number below 2**31 that belongs to what these words and numbers name."""
    digest = hashlib.sha256(" ".join(map(str, what)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def episode_seed(seed: int, stream: int, episode: int) -> int:
    """A number below 2**31 that belongs to one episode."""
    return derived_seed(seed, stream, episode)


class EpisodeStream:
    """Steps of one environment, episode after episode, each begun from its own seed.

    An environment cannot be saved in the middle of an episode, but an episode can be repeated: where the environment's
    and the policy's chance comes from their seeds alone, any part of the stream can be taken again, and equals what
    was taken before.

    Args:
        env: without batch dimension; a transform is appended to it.
        policy: any; the draws of a :class:`RandomPolicy`, and of one inside it, begin anew with each episode.
        seed: of the whole stream.
        stream: its number among several of one seed.
        episode: number of the episode to begin with.
        begins: called with each episode's seed before it begins, for a policy that draws from elsewhere.
    """

    def __init__(
        self,
        env: TransformedEnv,
        policy: TensorDictPolicy,
        *,
        seed: int,
        stream: int = 0,
        episode: int = 0,
        begins: Callable[[int], Any] | None = None,
    ) -> None:
        self._seed, self._stream, self._begun = seed, stream, begins
        parts = policy.modules() if isinstance(policy, nn.Module) else [policy]
        self._chance = [part for part in parts if isinstance(part, RandomPolicy)]
        self._begins = BeginsEpisodes(self._begin, episode)
        self._env = env.append_transform(self._begins)
        self._collector = RealCollector(self._env, None, policy=policy)

    def take(self, steps: int) -> TensorDictBase:
        """The next ``steps`` steps, ``[steps]``."""
        return self._collector.take(steps)

    def close(self) -> None:
        """Close the environment."""
        self._collector.close(close_env=True)

    def _begin(self, episode: int) -> None:
        seed = episode_seed(self._seed, self._stream, episode)
        self._env.base_env.set_seed(seed)
        for policy in self._chance:
            policy.generator.manual_seed(seed)
        if self._begun is not None:
            self._begun(seed)


class EpisodeCount:
    """What is known about the episodes of one stream from its steps alone.

    Attributes:
        ended: how many ended.
        total: the sum of their returns.
        longest: the number of steps of the longest.
        open: the steps of the episode in progress, ``[n]``; ``None`` if there is none.
    """

    def __init__(self) -> None:
        self.ended = 0
        self.total = 0.0
        self.longest = 0
        self.open: TensorDictBase | None = None
        self._return, self._length = 0.0, 0

    def add(self, steps: TensorDictBase, *, keep_open: bool = False) -> None:
        """Count further steps of the stream, ``[n]``.

        Args:
            steps: those that follow.
            keep_open: keep the steps of the episode in progress.
        """
        rewards = steps["next", "reward"].reshape(len(steps)).tolist()
        done = steps["next", "done"].reshape(len(steps))
        for reward, ended in zip(rewards, done.tolist(), strict=True):
            self._return += reward
            self._length += 1
            if ended:
                self._end()
        if keep_open:
            ends = torch.nonzero(done)[:, 0].tolist()
            rest = steps[ends[-1] + 1 :] if ends else steps
            before = [] if ends or self.open is None else [self.open]
            kept = cast(TensorDictBase, torch.cat([*before, rest], 0))  # pyright: ignore
            self.open = kept if len(kept) else None

    def cut(self) -> None:
        """The episode in progress ended where it is."""
        self._end()
        self.open = None

    def _end(self) -> None:
        self.total += self._return
        self.ended += 1
        self.longest = max(self.longest, self._length)
        self._return, self._length = 0.0, 0


def equal_steps(one: TensorDictBase, other: TensorDictBase) -> bool:
    """Whether two runs of steps are the same to the bit; a NaN is the same as a NaN."""
    keys = set(one.keys(True, True))
    return keys == set(other.keys(True, True)) and all(_same(one.get(key), other.get(key)) for key in keys)


def _same(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return bool(((one == other) | ((one != one) & (other != other))).all())


class BeginsEpisodes(Transform):
    """Calls ``begin(number)`` before the environment is reset to the episode of that number."""

    def __init__(self, begin: Callable[[int], None], first: int) -> None:
        super().__init__()
        self._begin, self._next = begin, first

    def _reset_env_preprocess(self, tensordict: TensorDictBase) -> TensorDictBase:
        self._begin(self._next)
        self._next += 1
        return super()._reset_env_preprocess(tensordict)
