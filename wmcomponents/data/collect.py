"""Collecting real experience into a replay buffer, through TorchRL's collector."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from tensordict import NestedKey, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor, nn
from torchrl.collectors import Collector
from torchrl.data import (
    Binary,
    Bounded,
    Categorical,
    MultiCategorical,
    MultiOneHot,
    OneHot,
    ReplayBuffer,
    TensorSpec,
    Unbounded,
)
from torchrl.envs import EnvBase

from wmcomponents.data.transitions import transition_keys

TensorDictPolicy = Callable[[TensorDictBase], TensorDictBase]


@dataclass(frozen=True)
class CollectStats:
    """What one call of collecting brought.

    Attributes:
        frames: steps added to the replay buffer.
        episodes: episodes that ended during the call.
        returns: undiscounted return of each of them, whole episodes also when they began in an earlier call.
        lengths: their number of steps.
    """

    frames: int
    episodes: int
    returns: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)


class RandomPolicy(TensorDictModuleBase):
    """Uniform random actions, sometimes holding the previous one.

    Repeated actions reach further than independent ones: a pole held to one side, a paddle moved across the screen.

    Args:
        action_spec: spec of the actions, with the environment's batch dims if it has any (``env.action_spec``).
            One-hot, categorical, bounded, and unbounded (standard normal) actions are supported.
        repeat_probability: chance that a step keeps the action before it; never the one of another episode.
        generator: where the draws come from; ``None`` is a new generator seeded from torch's global one.
        action_key: key that is written.

    Keys:
        ========== ============ ===== =====
        key        shape        dtype
        ========== ============ ===== =====
        is_init    ``[*B, 1]``  bool  read if ``repeat_probability`` > 0 and present
        action     as the spec        write
        ========== ============ ===== =====

    Raises:
        ValueError: if the probability is outside [0, 1].
        TypeError: if the spec is of a kind that cannot be drawn from.
    """

    def __init__(
        self,
        action_spec: TensorSpec,
        repeat_probability: float = 0.0,
        generator: torch.Generator | None = None,
        *,
        action_key: NestedKey = "action",
    ) -> None:
        super().__init__()
        if not 0.0 <= repeat_probability <= 1.0:
            raise ValueError(f"repeat_probability must be in [0, 1]; got {repeat_probability}.")
        if not _can_draw(action_spec):
            raise TypeError(
                f"RandomPolicy draws from OneHot, Categorical, and Bounded or Unbounded specs of floats; "
                f"got {type(action_spec).__name__}. Pass a policy of your own, a callable on TensorDicts."
            )
        self.in_keys: list[NestedKey] = ["is_init"] if repeat_probability > 0 else []
        self.out_keys: list[NestedKey] = [action_key]
        self.action_spec = action_spec.clone()
        self.repeat_probability = repeat_probability
        self.generator = generator if generator is not None else _new_generator(None)
        self._previous: Tensor | None = None

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write an action into ``tensordict`` and return it."""
        action = self._draw()
        if self.repeat_probability > 0:
            keeps = self._keeps(tensordict, action)  # drawn also where there is nothing to keep: as many draws a step
            if self._previous is not None:
                action = torch.where(keeps, self._previous, action)
            self._previous = action
        return tensordict.set(self.out_keys[0], action)

    def _keeps(self, tensordict: TensorDictBase, action: Tensor) -> Tensor:
        """Which rows hold their previous action, shaped to broadcast over the action."""
        keep = self._uniform(tensordict.batch_size) < self.repeat_probability
        is_init = tensordict.get("is_init", None)
        if is_init is not None:
            keep = keep & ~is_init.reshape(keep.shape)
        return keep.reshape(keep.shape + (1,) * (action.ndim - keep.ndim))

    def _draw(self) -> Tensor:
        spec, shape = self.action_spec, self.action_spec.shape
        if isinstance(spec, OneHot):
            index = (self._uniform(shape[:-1]) * shape[-1]).long()
            return nn.functional.one_hot(index, shape[-1]).to(spec.dtype)
        if isinstance(spec, Categorical):
            return (self._uniform(shape) * spec.n).to(spec.dtype)
        if isinstance(spec, Bounded):
            box: Any = spec.space
            return (box.low + (box.high - box.low) * self._uniform(shape)).to(spec.dtype)
        normal = torch.randn(shape, generator=self.generator, device=self.generator.device)
        return normal.to(device=spec.device, dtype=spec.dtype)

    def _uniform(self, shape: Sequence[int]) -> Tensor:
        draw = torch.rand(tuple(shape), generator=self.generator, device=self.generator.device)
        return draw.to(self.action_spec.device)


class RealCollector:
    """Steps a real environment into a replay buffer, over as many calls as you like, without losing an episode.

    Stored are the observation keys, ``is_init``, ``action`` and, under ``next``, the observation keys, ``reward``,
    ``terminated``, ``truncated`` and ``done``; nothing else that the policy or the transforms may write. Episodes in
    progress at the end of a call go on in the next. A batched environment fills a buffer of as many streams.

    Args:
        env: a TorchRL environment with ``is_init`` in its observations (:func:`make_env` makes such).
        replay: the buffer to extend (:func:`make_replay` makes it); ``None`` keeps only the statistics.
        policy: any callable from TensorDict to TensorDict that writes the action; ``None`` is :class:`RandomPolicy`.
            Assign :attr:`policy` to change it between calls.
        frames_per_batch: steps between two writes to the buffer, over all streams.
        seed: seeds the environment and the random policy.
        action_repeat_prob: for the random policy, see :class:`RandomPolicy`.

    Example:
        >>> from wmcomponents.data import RealCollector, make_env, make_replay
        >>> env = make_env("CartPole-v1")
        >>> replay = make_replay(1000, env, sequence_length=8, batch_size=4, seed=0, print_fn=None)
        >>> collector = RealCollector(env, replay, seed=0)
        >>> collector.collect(100).frames, collector.collect(50).frames, len(replay)
        (100, 50, 150)
        >>> replay.sample().shape
        torch.Size([4, 8])
        >>> collector.close()
    """

    def __init__(
        self,
        env: EnvBase,
        replay: ReplayBuffer | None,
        *,
        policy: TensorDictPolicy | None = None,
        frames_per_batch: int = 500,
        seed: int | None = None,
        action_repeat_prob: float = 0.0,
    ) -> None:
        if "is_init" not in env.observation_spec.keys():
            raise KeyError(
                "The environment does not mark the start of an episode; wrap it: "
                "TransformedEnv(env, torchrl.envs.InitTracker()), or build it with make_env."
            )
        if seed is not None:
            env.set_seed(seed)
        if policy is None:
            policy = RandomPolicy(env.action_spec, action_repeat_prob, _new_generator(seed))
        self.env = env
        self.replay = replay
        self.streams = env.batch_size.numel()
        self.keys = transition_keys(env)
        self._switch = _Switch(policy)
        self._steps_per_batch = max(1, frames_per_batch // self.streams)
        self._return = torch.zeros(self.streams, dtype=torch.float64)
        self._length = torch.zeros(self.streams, dtype=torch.int64)
        self._collector = Collector(
            env,
            self._switch,
            frames_per_batch=self._steps_per_batch * self.streams,
            total_frames=-1,
            use_buffers=False,  # the last batch of a call may be shorter
            track_traj_ids=False,
            trust_policy=True,
            auto_register_policy_transforms=False,
        )

    @property
    def policy(self) -> TensorDictPolicy:
        """The policy that acts; assign another one to go on with it, also in the middle of an episode."""
        return self._switch.held[0]

    @policy.setter
    def policy(self, policy: TensorDictPolicy) -> None:
        self._switch.held[0] = policy

    def collect(self, frames: int, *, progress: Callable[[int], Any] | None = None) -> CollectStats:
        """Take ``frames`` steps, over all streams together, and store them.

        Args:
            frames: rounded up to a multiple of the number of streams.
            progress: called after each write with the number of steps it held.

        Raises:
            ValueError: if ``frames`` is below 1.
        """
        if frames < 1:
            raise ValueError(f"frames must be at least 1; got {frames}.")
        steps = -(-frames // self.streams)
        done = 0
        returns: list[float] = []
        lengths: list[int] = []
        while done < steps:
            self._collector.frames_per_batch = min(self._steps_per_batch, steps - done)
            batch = self._collector.rollout().select(*self.keys)
            done += batch.shape[-1]
            self._count(batch, returns, lengths)
            if self.replay is not None:
                self._store(self.replay, batch)
            if progress is not None:
                progress(batch.numel())
        return CollectStats(done * self.streams, len(returns), returns, lengths)

    def close(self, *, close_env: bool = False) -> None:
        """Let go of the environment; ``close_env`` closes it as well."""
        self._collector.shutdown(close_env=close_env)

    def _store(self, replay: ReplayBuffer, batch: TensorDictBase) -> None:
        if self.streams > 1 and batch.shape[-1] == 1:
            # TensorDictReplayBuffer.extend cannot write its index into [N, 1] data (torchrl 0.14); the base stores it.
            ReplayBuffer.extend(replay, batch)
        else:
            replay.extend(batch)

    def _count(self, batch: TensorDictBase, returns: list[float], lengths: list[int]) -> None:
        """Add the episodes that end in ``batch``, whose last dimension is time, in the order in which they end."""
        rewards = batch["next", "reward"].reshape(self.streams, -1).T.double().cpu()  # (T, N)
        dones = batch["next", "done"].reshape(self.streams, -1).T.cpu()
        for reward, done in zip(rewards, dones, strict=True):
            self._return += reward
            self._length += 1
            if done.any():
                returns.extend(self._return[done].tolist())
                lengths.extend(self._length[done].tolist())
                self._return[done] = 0.0
                self._length[done] = 0


def collect(
    env: EnvBase,
    replay: ReplayBuffer | None,
    frames: int,
    *,
    policy: TensorDictPolicy | None = None,
    frames_per_batch: int = 500,
    seed: int | None = None,
    action_repeat_prob: float = 0.0,
    progress: Callable[[int], Any] | None = None,
) -> CollectStats:
    """Collect once: a :class:`RealCollector` for a single call.

    It starts from a reset. The steps of the episode in progress at the end are stored, its continuation is lost: to
    collect in rounds keep a :class:`RealCollector`.

    Args:
        env: see :class:`RealCollector`.
        replay: see :class:`RealCollector`.
        frames: number of steps.
        policy: see :class:`RealCollector`.
        frames_per_batch: see :class:`RealCollector`.
        seed: see :class:`RealCollector`.
        action_repeat_prob: see :class:`RandomPolicy`.
        progress: called after each write with the number of steps it held.
    """
    collector = RealCollector(
        env,
        replay,
        policy=policy,
        frames_per_batch=frames_per_batch,
        seed=seed,
        action_repeat_prob=action_repeat_prob,
    )
    try:
        return collector.collect(frames, progress=progress)
    finally:
        collector.close()


class _Switch(TensorDictModuleBase):
    """Hands each call to the policy of the moment, and its result back in the collector's own TensorDict."""

    def __init__(self, policy: TensorDictPolicy) -> None:
        super().__init__()
        self.in_keys: list[NestedKey] = []
        self.out_keys: list[NestedKey] = ["action"]
        self.held = [policy]  # in a list: as a submodule the collector would move it to its own device

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        out = self.held[0](tensordict)
        if out is not tensordict:
            tensordict.set("action", out.get("action"))
        return tensordict


def _can_draw(spec: TensorSpec) -> bool:
    if isinstance(spec, (Binary, MultiCategorical, MultiOneHot)):  # subclasses of the discrete ones below
        return False
    if isinstance(spec, (Bounded, Unbounded)):
        return spec.dtype.is_floating_point
    return isinstance(spec, (OneHot, Categorical))


def _new_generator(seed: int | None) -> torch.Generator:
    generator = torch.Generator()
    return generator.manual_seed(int(torch.randint(2**62, ())) if seed is None else seed)
