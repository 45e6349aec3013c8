"""Real steps from many machines: TorchRL's Ray collector fills a replay buffer."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import torch
from tensordict import TensorDictBase
from torchrl.data import ReplayBuffer
from torchrl.envs import EnvBase

from wmcomponents._arguments import of_kind, whole
from wmcomponents._extras import require
from wmcomponents.data import RandomPolicy, SequenceReplayBuffer
from wmcomponents.data.episodes import derived_seed

ENDLESS = 2**62
"""Steps in all: TorchRL's collector ends at once where it is told -1, its own word for endless (torchrl 0.14)."""

MakePolicy = Callable[[EnvBase, int], Any]
"""Makes a worker's policy, given an environment and a seed of the worker's own."""


class RayRealCollector:
    """Steps a real environment in Ray workers, one copy in each, into a replay buffer of as many streams.

    Each worker has seeds of its own, of its environment and of its policy. Episodes in progress at the end of a call go
    on in the next. What is stored is what :class:`~wmcomponents.data.RealCollector` stores.

    Args:
        make_env: makes an environment without batch dimension, with ``is_init``
            (``lambda: data.make_env("ALE/Pong-v5")``); it is sent to the workers, which have this library installed.
        replay: the buffer (``data.make_replay(..., num_streams=workers)``).
        make_policy: makes a worker's policy; random actions if not given.
        workers: number of copies.
        steps_at_once: steps of each copy between two writes to the buffer.
        seed: of everything.
        ray_init: arguments of ``ray.init``, such as ``{"address": "auto"}`` for the cluster that this machine is part
            of; without them Ray joins one that it finds, or starts one here.
        resources: of each worker, as ``ray.remote`` takes them.

    Raises:
        MissingExtraError: if Ray is not installed.
        ValueError: if the buffer has another number of streams, or a number is below 1.
    """

    def __init__(
        self,
        make_env: Callable[[], EnvBase],
        replay: SequenceReplayBuffer,
        *,
        make_policy: MakePolicy | None = None,
        workers: int = 2,
        steps_at_once: int = 64,
        seed: int = 0,
        ray_init: Mapping[str, Any] | None = None,
        resources: Mapping[str, Any] | None = None,
    ) -> None:
        of_kind("replay", replay, SequenceReplayBuffer, "a replay buffer of data.make_replay")
        self.workers = whole("workers", workers, 1, "a number of workers, at least 1")
        whole("steps_at_once", steps_at_once, 1, "a number of steps, at least 1")
        if replay.layout.streams != workers:
            raise ValueError(
                f"{workers} workers write as many streams, and the buffer has {replay.layout.streams}: build it with "
                f"num_streams={workers}."
            )
        require("ray", extra="ray")
        from torchrl.collectors.distributed import RayCollector

        self.replay = replay
        self._keys = [tuple(key) for key, _, _ in replay.layout.leaves]
        seeds = [derived_seed(seed, "worker", number) for number in range(workers)]
        self.collector = RayCollector(
            [functools.partial(_env, make_env, make_policy, each) for each in seeds],
            policy_factory=[functools.partial(_policy, make_env, make_policy, each) for each in seeds],
            frames_per_batch=steps_at_once * workers,
            total_frames=ENDLESS,
            sync=True,
            num_collectors=workers,
            # One for each: in a single one the last worker's policy would become everybody's (torchrl 0.14).
            collector_kwargs=[{"trust_policy": True, "auto_register_policy_transforms": False} for _ in seeds],
            ray_init_config=dict(ray_init or {}),
            remote_configs={"num_cpus": 1, "num_gpus": 0, **(resources or {})},
        )
        self._batches: Iterator[TensorDictBase] = iter(cast(Any, self.collector))

    def collect(self, frames: int) -> int:
        """Add at least so many steps, over all workers, to the buffer.

        Args:
            frames: how many.

        Returns:
            The steps that were added.
        """
        taken = 0
        while taken < whole("frames", frames, 1, "a number of steps, at least 1"):
            batch = next(self._batches).select(*self._keys)
            taken += batch.numel()
            # The base's: the subclass cannot write its index into [N, 1] steps (torchrl 0.14).
            ReplayBuffer.extend(self.replay, batch[0] if self.workers == 1 else batch)
        return taken

    def close(self) -> None:
        """End the workers; a cluster that was joined goes on."""
        self.collector.shutdown()


def _env(make_env: Callable[[], EnvBase], make_policy: MakePolicy | None, seed: int) -> EnvBase:
    """A worker's environment, with what its policy carries from step to step."""
    env: Any = make_env()
    primer = getattr(None if make_policy is None else make_policy(env, seed), "make_tensordict_primer", None)
    if primer is not None:
        env = env.append_transform(primer())
    env.set_seed(seed)
    return env


def _policy(make_env: Callable[[], EnvBase], make_policy: MakePolicy | None, seed: int) -> Any:
    env = make_env()
    try:
        if make_policy is not None:
            return make_policy(env, seed)
        return RandomPolicy(env.action_spec, generator=torch.Generator().manual_seed(seed))
    finally:
        env.close()
