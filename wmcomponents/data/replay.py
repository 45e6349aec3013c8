"""Replay buffers: TorchRL's own, in TorchRL's layout, sampled by sequences."""

import json
import math
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from tensordict import NestedKey
from torchrl.data import (
    Composite,
    LazyMemmapStorage,
    LazyTensorStorage,
    TensorDictReplayBuffer,
    TensorSpec,
    TensorStorage,
)
from torchrl.envs import EnvBase

from wmcomponents.data.pictures import PicturesOnceMemmapStorage, PicturesOnceStorage
from wmcomponents.data.sequences import EmptyReplayError, SequenceSampler
from wmcomponents.data.transitions import picture_keys, transition_spec

INDEX_BYTES = 8  # TorchRL's writer stores each row's position beside it, as int64
SLOT_BYTES = 8  # where pictures are kept once: whether the next one lies aside
DESCRIPTION = "replay.json"


class ReplayTooLargeError(RuntimeError):
    """The buffer would not fit where it was asked to live."""


class ReplayMismatchError(ValueError):
    """A saved buffer is of another shape than the one it is loaded into, or not a saved buffer."""


def make_replay(
    capacity: int,
    env_or_spec: EnvBase | Composite,
    *,
    sequence_length: int,
    batch_size: int,
    storage: Literal["memory", "memmap"] = "memory",
    directory: str | Path | None = None,
    num_streams: int | None = None,
    seed: int | None = None,
    device: torch.device | str = "cpu",
    print_fn: Callable[[str], object] | None = print,
) -> TensorDictReplayBuffer:
    """Build a replay buffer whose ``sample()`` gives a TensorDict of batch ``[batch_size, sequence_length]``.

    Tensors keep the dtype the environment shows, and pictures are stored once: the one after step t is the one of step
    t+1, but for the end of an episode, where both are kept (:mod:`wmcomponents.data.pictures`). What is sampled has
    both. Memory is taken at the first write; its size is printed, and checked against what is free, before that.

    Args:
        capacity: number of transitions, over all streams; rounded up to a multiple of their number.
        env_or_spec: the environment to store, or the spec of one transition (:func:`transition_spec`).
        sequence_length: T, steps in a sequence.
        batch_size: B, sequences in a sample.
        storage: ``"memory"``, or ``"memmap"`` for files on disk, which may be larger than the memory.
        directory: for ``"memmap"``: where its files go; ``None`` is a temporary folder that is removed at exit. Given,
            it survives, and saving to the same place (:func:`save_replay`) copies nothing.
        num_streams: parallel environments that write side by side; the data then comes as ``[N, T]`` and is kept as
            ``[rows, N]``. ``None`` takes it from the environment's batch (no batch, or a spec: one stream).
        seed: seeds the sampling; ``None`` samples from torch's global generator.
        device: of the ``"memory"`` storage and of what is sampled.
        print_fn: receives one line with the size; ``None`` for silence.

    Raises:
        ValueError: for counts below 1, streams that do not match the environment, or an unknown storage.
        ReplayTooLargeError: if it does not fit into the free memory or disk.
    """
    streams = _streams(env_or_spec, num_streams)
    for name, count in (("capacity", capacity), ("batch_size", batch_size)):
        if count < 1:
            raise ValueError(f"{name} must be at least 1; got {count}.")
    rows = -(-capacity // streams)
    if rows < sequence_length:
        raise ValueError(
            f"A capacity of {capacity} over {streams} stream(s) keeps {rows} consecutive steps, fewer than the "
            f"sequence_length of {sequence_length}; raise the capacity to at least {sequence_length * streams}."
        )
    needed = replay_bytes(rows * streams, env_or_spec)
    place, free = _place(storage, directory, device)
    room = "" if free is None else f", {_readable(free)} free"
    line = f"Replay buffer: {rows * streams:,} transitions, {_readable(needed)} {place}{room}"
    if free is not None and needed > free:
        raise ReplayTooLargeError(
            f"{line}. Lower the capacity to about {int(capacity * free / needed):,}, "
            + ("use smaller images, or free some disk." if storage == "memmap" else "or use storage='memmap'.")
        )
    if print_fn is not None:
        print_fn(line)
    return TensorDictReplayBuffer(
        storage=_make_storage(storage, rows, streams, picture_keys(_spec(env_or_spec)), directory, device),
        sampler=SequenceSampler(sequence_length),
        batch_size=batch_size,
        generator=None if seed is None else torch.Generator().manual_seed(seed),
    )


def replay_bytes(capacity: int, env_or_spec: EnvBase | Composite) -> int:
    """Bytes that ``capacity`` transitions take, each picture counted once (one more is kept for each episode's end)."""
    spec = _spec(env_or_spec)
    pictures = picture_keys(spec)
    row = sum(_leaf_bytes(leaf) for leaf in spec.values(True, True))
    twice = sum(_leaf_bytes(spec[key]) for key in pictures)
    return capacity * (row - twice + INDEX_BYTES + (SLOT_BYTES if pictures else 0))


def save_replay(replay: TensorDictReplayBuffer, path: str | Path) -> None:
    """Write the buffer, its cursor and the state of its generator into the folder ``path``.

    A memmap buffer built with ``directory=path`` already stands there and is not copied.

    Raises:
        EmptyReplayError: if nothing was written yet.
    """
    if len(replay) == 0:
        raise EmptyReplayError("The replay buffer is empty: there is nothing to save. Collect into it first.")
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # Said of a buffer that was loaded and not written since; its cursor is kept by the writer and the sampler.
        warnings.filterwarnings("ignore", message="last_cursor is None")
        replay.dumps(folder)
    # TorchRL pickles its prefetch queue, which is empty here: nothing of ours is ever unpickled.
    (folder / "prefetch.pkl").unlink(missing_ok=True)
    (folder / DESCRIPTION).write_text(json.dumps(_description(replay)))


def load_replay(replay: TensorDictReplayBuffer, path: str | Path) -> TensorDictReplayBuffer:
    """Fill ``replay`` with what :func:`save_replay` wrote, and return it. Sampling goes on as it would have.

    Raises:
        FileNotFoundError: if ``path`` holds no saved buffer.
        ReplayMismatchError: if the saved buffer has another capacity or number of streams.
    """
    file = Path(path) / DESCRIPTION
    if not file.is_file():
        raise FileNotFoundError(f"{path} holds no replay buffer: {DESCRIPTION} is missing. Write one with save_replay.")
    foreign = [name for name in ("prefetch.pkl", "transform.t") if (Path(path) / name).exists()]
    if foreign:
        raise ReplayMismatchError(
            f"{path} holds {', '.join(foreign)}, which save_replay does not write and which could run code when read. "
            f"Remove the file if you trust the rest of the folder."
        )
    saved, own = json.loads(file.read_text()), _description(replay)
    if (saved["capacity"], saved["ndim"]) != (own["capacity"], own["ndim"]):
        raise ReplayMismatchError(
            f"The buffer in {path} has capacity {saved['capacity']} and ndim {saved['ndim']}; this one has "
            f"{own['capacity']} and {own['ndim']}. Build it with the same capacity and number of streams, then load."
        )
    batch_size = replay.batch_size
    replay.loads(path)
    replay._batch_size = batch_size  # a question of use, not of content: keep what this buffer was built with
    return replay


def _make_storage(
    kind: str,
    rows: int,
    streams: int,
    pictures: list[NestedKey],
    directory: str | Path | None,
    device: torch.device | str,
) -> TensorStorage:
    size, ndim = rows * streams, 1 if streams == 1 else 2
    if kind == "memory":
        if pictures:
            return PicturesOnceStorage(size, once=pictures, ndim=ndim, device=device)
        return LazyTensorStorage(size, ndim=ndim, device=device)
    scratch = None if directory is None else Path(directory) / "storage"
    if pictures:
        return PicturesOnceMemmapStorage(size, once=pictures, ndim=ndim, scratch_dir=scratch)
    return LazyMemmapStorage(size, ndim=ndim, scratch_dir=scratch)


def _spec(env_or_spec: EnvBase | Composite) -> Composite:
    return env_or_spec if isinstance(env_or_spec, Composite) else transition_spec(env_or_spec)


def _leaf_bytes(leaf: TensorSpec) -> int:
    return math.prod(leaf.shape) * leaf.dtype.itemsize


def _description(replay: TensorDictReplayBuffer) -> dict[str, int]:
    return {"capacity": replay.storage.max_size, "ndim": replay.storage.ndim}


def _streams(env_or_spec: EnvBase | Composite, num_streams: int | None) -> int:
    if num_streams is not None and num_streams < 1:
        raise ValueError(f"num_streams must be at least 1; got {num_streams}.")
    if isinstance(env_or_spec, Composite):
        return num_streams or 1
    batch = env_or_spec.batch_size
    if len(batch) > 1:
        raise ValueError(f"The environment's batch must be [] or [N]; got {tuple(batch)}.")
    streams = batch.numel()
    if num_streams not in (None, streams):
        raise ValueError(f"num_streams={num_streams}, but the environment steps {streams}; leave num_streams out.")
    return streams


def _place(storage: str, directory: str | Path | None, device: torch.device | str) -> tuple[str, int | None]:
    """Where the buffer goes, in words, and how many bytes are free there (``None`` if the system does not say)."""
    if storage == "memmap":
        parent = Path(directory) if directory is not None else Path(tempfile.gettempdir())
        while not parent.exists():
            parent = parent.parent
        return f"on disk ({directory or parent})", shutil.disk_usage(parent).free
    if storage != "memory":
        raise ValueError(f"storage must be 'memory' or 'memmap'; got {storage!r}.")
    if directory is not None:
        raise ValueError("directory is for storage='memmap'; a buffer in memory has none.")
    if torch.device(device).type == "cuda":
        return f"on {device}", torch.cuda.mem_get_info(device)[0]
    return "in memory", _free_memory()


def _free_memory() -> int | None:
    """Memory that can still be taken, within the limit of a container. Linux only; elsewhere unknown."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):  # no such group, or its limit reads "max"
        return free
    return min(free, limit - used)


def _readable(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.4g} TB"
