"""Collecting real experience into a replay buffer, through TorchRL's collector."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from tensordict import NestedKey, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torchrl.collectors import Collector
from torchrl.data import ReplayBuffer
from torchrl.envs import EnvBase

from wmcomponents._arguments import of_kind, seed_or_none, whole
from wmcomponents.data.acting import acted
from wmcomponents.data.fit import OtherDataError
from wmcomponents.data.layout import Layout
from wmcomponents.data.random_policy import RandomPolicy as RandomPolicy
from wmcomponents.data.random_policy import new_generator
from wmcomponents.data.replay import SequenceReplayBuffer
from wmcomponents.data.transitions import transition_keys, transition_spec

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
        meaning = "an environment as make_env gives it; make_env(env) makes one of a Gymnasium environment or of an id"
        of_kind("env", env, EnvBase, meaning)
        if replay is not None:
            of_kind("replay", replay, ReplayBuffer, "a replay buffer (make_replay), or None for the statistics alone")
        if policy is not None and not callable(policy):
            raise TypeError(
                f"policy is a callable from TensorDict to TensorDict that writes 'action', or None for random actions; "
                f"got {policy!r}."
            )
        seed = seed_or_none(seed)
        if "is_init" not in env.observation_spec.keys():
            raise KeyError(
                "The environment does not mark the start of an episode; wrap it: "
                "TransformedEnv(env, torchrl.envs.InitTracker()), or build it with make_env."
            )
        if seed is not None:
            env.set_seed(seed)
        if policy is None:
            policy = RandomPolicy(env.action_spec, action_repeat_prob, new_generator(seed))
        self.env = env
        self.replay = replay
        self.streams = env.batch_size.numel()
        self.keys = transition_keys(env)
        if isinstance(replay, SequenceReplayBuffer):
            _check_same_layout(replay.layout, Layout.of_spec(transition_spec(env), self.streams))
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
        frames = whole("frames", frames, 1, "at least 1")
        steps = -(-frames // self.streams)
        done = 0
        returns: list[float] = []
        lengths: list[int] = []
        while done < steps:
            batch = self.take(min(self._steps_per_batch, steps - done))
            done += batch.shape[-1]
            self._count(batch, returns, lengths)
            if self.replay is not None:
                self._store(self.replay, batch)
            if progress is not None:
                progress(batch.numel())
        return CollectStats(done * self.streams, len(returns), returns, lengths)

    def take(self, steps: int) -> TensorDictBase:
        """The next ``steps`` steps of every stream, ``[steps]`` or ``[N, steps]``, neither stored nor counted."""
        self._collector.frames_per_batch = steps
        return self._collector.rollout().select(*self.keys)

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


def _check_same_layout(kept: Layout, shown: Layout) -> None:
    """Refuse an environment whose steps the buffer was not built for.

    Raises:
        OtherDataError: naming what differs.
    """
    if kept == shown:
        return
    has, gives = ({"/".join(key): (dtype, list(shape)) for key, dtype, shape in one.leaves} for one in (kept, shown))
    other = sorted(key for key in has.keys() | gives.keys() if has.get(key) != gives.get(key))
    words = [f"{key} {gives.get(key, 'absent')}, not {has.get(key, 'absent')}" for key in other[:4]]
    if kept.batch != shown.batch:
        words.append(f"{shown.streams} stream(s), not {kept.streams}")
    raise OtherDataError(
        f"the environment gives other steps than the replay buffer was built for: {'; '.join(words)}. Build the buffer "
        f"with the environment that fills it: make_replay(capacity, env, ...)."
    )


class _Switch(TensorDictModuleBase):
    """Hands each call to the policy of the moment, and its result back in the collector's own TensorDict."""

    def __init__(self, policy: TensorDictPolicy) -> None:
        super().__init__()
        self.in_keys: list[NestedKey] = []
        self.out_keys: list[NestedKey] = ["action"]
        self.held = [policy]  # in a list: as a submodule the collector would move it to its own device

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        out = acted(self.held[0], tensordict)
        if not isinstance(out, TensorDictBase):
            raise TypeError(
                f"the policy returns the TensorDict it was given, with 'action' written into it; it returned a "
                f"{type(out).__name__}. integrations.sb3.SB3Policy makes such a policy of an SB3 agent."
            )
        if out is not tensordict:
            tensordict.set("action", out.get("action"))
        return tensordict
