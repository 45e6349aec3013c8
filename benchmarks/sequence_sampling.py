"""Uniform sequence sampling from a large buffer, ours and TorchRL's ``SliceSampler``, in the same run."""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import cast

import torch
from tensordict import TensorDict
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.data.replay_buffers.samplers import Sampler, SliceSampler

from wmcomponents.data import SequenceSampler

WARM_UP = 3


def measure(
    steps: int = 1_000_000,
    batch_size: int = 16,
    sequence_length: int = 64,
    repeats: int = 30,
    episode_length: int = 500,
    threads: int = 1,
    device: str = "cpu",
    cpu_time: bool = False,
) -> dict:
    """Median milliseconds of one batch, calls interleaved; storage and samples are on the device.

    With ``cpu_time`` the process's own time is counted instead of the clock's: for a machine with other work.

    Rivals, all on equal buffers: ``crossing`` is ``SliceSampler`` set to our semantics (one trajectory id for the whole
    stream, so slices run over the ends of episodes, flags untouched); ``episodes`` is its usual setting, slices within
    episodes found by ``("next", "done")``; ``ids`` finds them by a trajectory id instead.

    Returns:
        For each of ``index`` (the sampler alone), ``sample`` (the whole batch) and ``extend_sample`` (after a write of
        ``batch_size`` steps): ``{"ours", "crossing", "episodes", "ids"}`` in ms, under ``"ratio"`` ours over each, and
        under ``"range"`` the shortest and longest of all four.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        data = _transitions(steps, episode_length).to(device)
        rivals: dict[str, dict] = {
            "crossing": {"traj_key": "stream", "init_key": None},
            "episodes": {"end_key": ("next", "done")},
            "ids": {"traj_key": "episode"},
        }
        flat = batch_size * sequence_length
        buffers = {"ours": _buffer(steps, SequenceSampler(sequence_length), batch_size, data)}
        for name, keys in rivals.items():
            sampler = SliceSampler(slice_len=sequence_length, truncated_key=None, **keys)
            buffers[name] = _buffer(steps, sampler, flat, data)
        fresh = data[:batch_size]

        def index(replay: TensorDictReplayBuffer) -> object:
            return replay.sampler.sample(replay.storage, cast(int, replay.batch_size))

        def sample(replay: TensorDictReplayBuffer) -> object:
            return replay.sample()

        def extend_sample(replay: TensorDictReplayBuffer) -> object:
            replay.extend(fresh.clone())
            return replay.sample()

        clock = time.process_time if cpu_time else time.perf_counter
        results = {call.__name__: _compare(call, buffers, repeats, clock) for call in (index, sample, extend_sample)}
        setting = {"steps": steps, "batch": [batch_size, sequence_length], "episode_length": episode_length}
        return {**results, **setting, "threads": threads, "repeats": repeats}
    finally:
        torch.set_num_threads(before)


def _transitions(count: int, episode_length: int) -> TensorDict:
    """The transitions of an environment with proprioception, in TorchRL's layout, with the ids that rivals need."""
    moment = torch.arange(count)
    done = ((moment + 1) % episode_length == 0)[:, None]
    following = {
        "observation": torch.randn(count, 8),
        "reward": torch.randn(count, 1),
        "terminated": torch.zeros(count, 1, dtype=torch.bool),
        "truncated": done.clone(),
        "done": done,
    }
    fields = {
        "observation": torch.randn(count, 8),
        "is_init": (moment % episode_length == 0)[:, None],
        "action": torch.randn(count, 2),
        "stream": torch.zeros(count, dtype=torch.int64),
        "episode": moment // episode_length,
        "next": following,
    }
    return TensorDict(fields, batch_size=[count])


def _buffer(capacity: int, sampler: Sampler, batch_size: int, data: TensorDict) -> TensorDictReplayBuffer:
    replay = TensorDictReplayBuffer(
        storage=LazyTensorStorage(capacity, device=data.device or "cpu"),
        sampler=sampler,
        batch_size=batch_size,
        generator=torch.Generator().manual_seed(0),
    )
    replay.extend(data.clone())
    return replay


def _compare(
    call: Callable[[TensorDictReplayBuffer], object],
    buffers: dict[str, TensorDictReplayBuffer],
    repeats: int,
    clock: Callable[[], float],
) -> dict:
    taken: dict[str, list[float]] = {name: [] for name in buffers}
    for repeat in range(repeats + WARM_UP):
        for name, replay in buffers.items():
            start = clock()
            call(replay)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if repeat >= WARM_UP:
                taken[name].append(1000 * (clock() - start))
    median = {name: statistics.median(times) for name, times in taken.items()}
    ratio = {name: round(median["ours"] / other, 4) for name, other in median.items() if name != "ours"}
    spread = {name: [round(min(times), 4), round(max(times), 4)] for name, times in taken.items()}
    return {**{name: round(value, 4) for name, value in median.items()}, "ratio": ratio, "range": spread}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=30)
    arguments = parser.parse_args()
    print(json.dumps(measure(steps=arguments.steps, repeats=arguments.repeats), indent=2))
