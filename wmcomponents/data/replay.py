"""Replay buffers: TorchRL's own, in TorchRL's layout, sampled by sequences."""

import json
import math
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, cast

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor
from torchrl.data import (
    Composite,
    LazyTensorStorage,
    ReplayBuffer,
    TensorDictReplayBuffer,
    TensorSpec,
    TensorStorage,
)
from torchrl.envs import EnvBase

from wmcomponents._arguments import device_named, of_kind, whole
from wmcomponents._memory import free_memory
from wmcomponents._whole import check_place
from wmcomponents.data.folder import PART_BYTES, BadDataError, DataWriter, SavedSteps, read_one_save
from wmcomponents.data.image_storage import ImagesOnceMemmapStorage, ImagesOnceStorage
from wmcomponents.data.layout import Layout
from wmcomponents.data.memmap import ReplayTooLargeError, WorkingMemmapStorage
from wmcomponents.data.priorities import Priorities, PrioritizedSequenceSampler
from wmcomponents.data.sequences import EmptyReplayError, SequenceSampler
from wmcomponents.data.transitions import image_keys, transition_spec, under_next
from wmcomponents.pretrained import spec_to_json

INDEX_BYTES = 8  # TorchRL's writer stores each row's position beside it, as int64
SLOT_BYTES = 8  # where images are kept once: whether the next one lies aside
KEPT_WHILE_READ = 2**28  # bytes of a save that are read once; of a larger one every file is read twice


class SequenceReplayBuffer(TensorDictReplayBuffer):
    """TorchRL's buffer that knows what a step is and is saved in our format, in which nothing is ever unpickled.

    Args:
        transition_spec: of a step, as plain JSON (``pretrained.spec_to_json``); ``None`` if it cannot be written so.
        layout: of a row.
        **kwargs: of ``TensorDictReplayBuffer``.
    """

    def __init__(self, *, transition_spec: dict[str, Any] | None, layout: Layout, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.transition_spec = transition_spec
        self.layout = layout

    def update_priority(self, index: Any, priority: Any) -> None:
        """Tell the sampler what drawn steps are worth now.

        Args:
            index: as a sample has it under ``"index"``: ``[B, T]``, of several streams ``[B, T, 2]``.
            priority: ``[B, T]``.
        """
        # The base's would transpose the priorities, but not the index, where there are several streams.
        with self._replay_lock, self._write_lock:
            self.sampler.update_priority(index, priority, storage=self.storage)

    def rewrite(self, index: Tensor, entries: Mapping[NestedKey, Tensor], where: Tensor) -> None:
        """Keep other values beside steps that are stored already, such as what a later search finds in them.

        Args:
            index: of the steps, as a sample has it under ``"index"``: ``[B, T]``, of several streams ``[B, T, 2]``.
            entries: by key, ``[B, T, ...]`` each; not images, which are stored with the steps around them.
            where: which of the steps, bool ``[B, T]``.

        Raises:
            KeyError: if the steps have no such entry.
        """
        held = cast(TensorDictBase, _tensor_storage(self)._storage)
        place = index[where]
        for key, value in entries.items():
            table = held.get(key)
            at = (place,) if place.ndim == 1 else place.unbind(-1)
            table[at] = value[where].to(table)

    def dumps(self, path: str | Path) -> None:
        """:func:`save_replay`."""
        save_replay(self, path)

    def loads(self, path: str | Path) -> None:
        """:func:`load_replay`."""
        load_replay(self, path)


def make_replay(
    capacity: int,
    env_or_spec: EnvBase | Composite,
    *,
    sequence_length: int,
    batch_size: int,
    storage: Literal["memory", "memmap"] = "memory",
    directory: str | Path | None = None,
    num_streams: int | None = None,
    priorities: Priorities | None = None,
    seed: int | None = None,
    device: torch.device | str = "cpu",
    print_fn: Callable[[str], object] | None = print,
) -> SequenceReplayBuffer:
    """Build a replay buffer whose ``sample()`` gives a TensorDict of batch ``[batch_size, sequence_length]``.

    Tensors keep the dtype the environment shows, and images are stored once: the one after step t is the one of step
    t+1, but for the end of an episode, where both are kept (:mod:`wmcomponents.data.image_storage`). What is sampled
    has both. Memory is taken at the first write; its size is printed, and checked against what is free, before that.

    Args:
        capacity: number of transitions, over all streams; rounded up to a multiple of their number.
        env_or_spec: the environment to store, or the spec of one transition (:func:`transition_spec`).
        sequence_length: T, steps in a sequence.
        batch_size: B, sequences in a sample.
        storage: ``"memory"``, or ``"memmap"`` for files on disk, which may be larger than the memory.
        directory: for ``"memmap"``: where its working files go; ``None`` is the system's place for temporary files.
            They are gone when the buffer is, and after a kill when the next buffer is made there: what is to last is
            saved (:func:`save_replay`), to the same folder if you like.
        num_streams: parallel environments that write side by side; the data then comes as ``[N, T]`` and is kept as
            ``[rows, N]``. ``None`` takes it from the environment's batch (no batch, or a spec: one stream).
        priorities: draw sequences by their priority (:class:`PrioritizedSequenceSampler`); all alike if not given.
        seed: seeds the sampling; ``None`` samples from torch's global generator.
        device: of the ``"memory"`` storage and of what is sampled.
        print_fn: receives one line with the size; ``None`` for silence.

    Raises:
        ValueError: for counts below 1, streams that do not match the environment, or an unknown storage.
        ReplayTooLargeError: if it does not fit into the free memory or disk.
    """
    of_kind(
        "the second argument of make_replay",
        env_or_spec,
        (EnvBase, Composite),
        "an environment as make_env gives it (make_env(env) makes one of Gymnasium's), or transition_spec(env)",
    )
    streams = _streams(env_or_spec, num_streams)
    for name, count in (("capacity", capacity), ("batch_size", batch_size), ("sequence_length", sequence_length)):
        whole(name, count, 1, "at least 1")
    device = device_named(device)
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
    spec = _spec(env_or_spec)
    sampler = SequenceSampler(sequence_length)
    if priorities is not None:
        sampler = PrioritizedSequenceSampler(sequence_length, rows, streams, priorities)
    return SequenceReplayBuffer(
        transition_spec=_as_json(spec),
        layout=Layout.of_spec(spec, streams),
        storage=_make_storage(storage, rows, streams, image_keys(spec), directory, device),
        sampler=sampler,
        batch_size=batch_size,
        generator=None if seed is None else torch.Generator().manual_seed(seed),
    )


def replay_bytes(capacity: int, env_or_spec: EnvBase | Composite) -> int:
    """Bytes that ``capacity`` transitions take, each image counted once (one more is kept for each episode's end)."""
    spec = _spec(env_or_spec)
    images = image_keys(spec)
    row = sum(_leaf_bytes(leaf) for leaf in spec.values(True, True))
    twice = sum(_leaf_bytes(spec[key]) for key in images)
    return capacity * (row - twice + INDEX_BYTES + (SLOT_BYTES if images else 0))


def save_replay(replay: TensorDictReplayBuffer, path: str | Path, **facts: Any) -> None:
    """Write the buffer, its cursor and the state of its generator into the folder ``path``.

    A save that stands there is replaced in one step: a reader, or a run after a kill, finds the old one or the new one,
    whole. Until then both need room on the disk.

    Args:
        replay: the buffer; a memmap one is copied too, since what its own files hold is overwritten by the next steps.
        path: the folder.
        **facts: plain JSON to keep beside the data, such as ``env="CartPole-v1"`` (:func:`read_description`).

    Raises:
        EmptyReplayError: if nothing was written yet.
        FolderInUseError: if another process writes to the folder.
        NoPlaceError: if nothing can be written there, or there is no room for it; what was saved before stands.
        TypeError: if the buffer holds something that is no tensor.
    """
    if len(replay) == 0:
        raise EmptyReplayError("The replay buffer is empty: there is nothing to save. Collect into it first.")
    storage, writer = _tensor_storage(replay), cast(Any, replay.writer)
    shape = cast(torch.Size, storage.shape)
    rows, streams = shape[0], shape[1:].numel()
    cursor = int(writer._cursor)
    capacity = storage.max_size // streams
    order = (torch.arange(rows) + (cursor if rows == capacity else 0)) % rows  # oldest first
    spec = replay.transition_spec if isinstance(replay, SequenceReplayBuffer) else None
    with DataWriter(path) as folder:
        one = storage.get(cast(Any, order[:1])).exclude("index")
        check_place(path, space=rows * Layout.of(one, storage.ndim).row_bytes)
        for some in order.split(max(1, PART_BYTES // max(1, one.bytes()))):
            folder.append(storage.get(cast(Any, some)).exclude("index"))
        folder.save(
            transition_spec=spec,
            capacity=capacity * streams,
            cursor=cursor,
            generator=_generator_state(replay._rng),
            **facts,
        )


def load_replay(replay: TensorDictReplayBuffer, path: str | Path) -> TensorDictReplayBuffer:
    """Fill ``replay`` with what :func:`save_replay` wrote, and return it.

    Into a buffer of the same capacity: sampling goes on as it would have. A buffer of another capacity takes the steps
    if it has room for all of them. Whatever the buffer held is gone, unless the folder is refused.

    Raises:
        BadDataError: if there is no saved buffer, if it is damaged, or if it does not fit: more steps than the buffer
            has room for, another number of streams, another kind of steps. The buffer is as it was then.
    """
    return read_one_save(path, lambda saved: _load(replay, saved))


def append_replay(replay: TensorDictReplayBuffer, path: str | Path, *, goes_on: bool = False) -> None:
    """Write what :func:`save_replay` wrote behind what a buffer holds already, as episodes of their own.

    The first step begins an episode, and the last one ends it by truncation.

    Args:
        replay: the buffer; what it has no room for takes the place of its oldest steps.
        path: the folder.
        goes_on: leave the last step as it is, for the steps that follow it come next.

    Raises:
        BadDataError: see :func:`load_replay`.
    """
    read_one_save(path, lambda saved: _append(replay, saved, goes_on))


def _append(replay: TensorDictReplayBuffer, saved: SavedSteps, goes_on: bool) -> None:
    known = (replay.transition_spec, replay.layout) if isinstance(replay, SequenceReplayBuffer) else (None, None)
    check_same_steps(saved, *known)
    storage, read = _tensor_storage(replay), 0
    for steps in saved.parts():
        steps = steps.to(storage.device)
        if read == 0:
            steps["is_init"][0] = True
        read += len(steps)
        if read == saved.rows and not goes_on:
            for name in ("truncated", "done"):
                steps["next", name][-1] = True
        ReplayBuffer.extend(replay, steps.transpose(0, replay.dim_extend))


def check_same_steps(saved: SavedSteps, spec: dict[str, Any] | None, layout: Layout | None) -> None:
    """Refuse saved steps that are of another kind: of another spec, or without an entry that is wanted.

    Args:
        saved: the steps.
        spec: of the steps that are wanted, as JSON; ``None`` if unknown.
        layout: of the steps that are wanted; ``None`` if unknown.

    Raises:
        BadDataError: naming what differs.
    """
    has, wants = _by_key(saved.layout), {} if layout is None else _by_key(layout)
    other = [key for key in wants if has.get(key) != wants[key]]
    if not other and spec is not None and saved.content["transition_spec"] not in (None, spec):
        has, wants = _by_entry(saved.content["transition_spec"]), _by_entry(spec)
        other = sorted(key for key in has.keys() | wants.keys() if has.get(key) != wants.get(key))
    if other:
        said = "; ".join(
            f"{key}: {has.get(key, 'absent')[:99]}, not {wants.get(key, 'absent')[:99]}" for key in other[:4]
        )
        raise BadDataError(
            f"{saved.path} holds steps of another kind ({said}). Build the buffer with the environment, and the "
            f"options, that they were collected with."
        )


def _load(replay: TensorDictReplayBuffer, saved: SavedSteps) -> TensorDictReplayBuffer:
    storage = _tensor_storage(replay)
    _check_fits(replay, storage, saved)
    generator = _restored(replay._rng, saved)
    few = list(saved.parts()) if saved.bytes <= KEPT_WHILE_READ else None
    if few is None:
        for _ in saved.parts():  # all of it is checked before anything is changed
            pass
    replay.empty()
    try:
        streams = saved.layout.streams
        if saved.rows == storage.max_size // streams and saved.content["capacity"] == saved.rows * streams:
            cast(Any, replay.writer)._cursor = saved.content["cursor"]
        for steps in few if few is not None else saved.parts():
            steps = steps.to(storage.device)
            # The base's: the subclass cannot write its index into [N, 1] steps (torchrl 0.14).
            ReplayBuffer.extend(replay, steps.transpose(0, replay.dim_extend))
    except BadDataError:
        replay.empty()
        raise
    if generator is not None:
        replay.set_rng(generator)
    return replay


def _check_fits(replay: TensorDictReplayBuffer, storage: TensorStorage, saved: SavedSteps) -> None:
    """Refuse saved steps that a buffer has no room for, or that are of another kind than its own."""
    own = held = _held(storage)
    known = None
    if isinstance(replay, SequenceReplayBuffer):
        own, known = replay.layout, replay.transition_spec
    batch, streams = saved.layout.batch, saved.layout.streams
    if storage.ndim != 1 + len(batch) or (own is not None and own.batch != batch):
        raise BadDataError(
            f"The data in {saved.path} have {streams} stream(s), and this buffer has "
            f"{'several' if own is None else own.streams}; build it with num_streams={streams}."
        )
    capacity = storage.max_size // streams
    if saved.rows > capacity:
        steps = saved.rows * streams
        raise BadDataError(
            f"The buffer in {saved.path} holds {steps:,} steps and this one has capacity {capacity * streams:,}; build "
            f"it with a capacity of at least {steps:,}."
        )
    check_same_steps(saved, known, own)
    if held is not None and held.leaves != saved.layout.leaves:
        raise BadDataError(f"{saved.path} holds other entries than the buffer does; load it into a new buffer.")


def _make_storage(
    kind: str,
    rows: int,
    streams: int,
    images: list[NestedKey],
    directory: str | Path | None,
    device: torch.device | str,
) -> TensorStorage:
    size, ndim = rows * streams, 1 if streams == 1 else 2
    if kind == "memory":
        if images:
            return ImagesOnceStorage(size, once=images, ndim=ndim, device=device)
        return LazyTensorStorage(size, ndim=ndim, device=device)
    if images:
        return ImagesOnceMemmapStorage(size, once=images, ndim=ndim, directory=directory)
    return WorkingMemmapStorage(size, ndim=ndim, directory=directory)


def _spec(env_or_spec: EnvBase | Composite) -> Composite:
    return env_or_spec if isinstance(env_or_spec, Composite) else transition_spec(env_or_spec)


def _leaf_bytes(leaf: TensorSpec) -> int:
    return math.prod(leaf.shape) * leaf.dtype.itemsize


def _as_json(spec: Composite) -> dict[str, Any] | None:
    try:
        return spec_to_json(spec)
    except (TypeError, ValueError):
        return None


def _tensor_storage(replay: ReplayBuffer) -> TensorStorage:
    storage = replay.storage
    if not isinstance(storage, TensorStorage):
        raise TypeError(f"Buffers of tensor storages are saved and loaded; this one has {type(storage).__name__}.")
    return storage


def _held(storage: TensorStorage) -> Layout | None:
    """The layout of a storage that has been written to; whatever comes next has to be of the same."""
    if not storage.initialized:
        return None
    held = cast(TensorDictBase, storage._storage).exclude("index").clone(recurse=False)
    for key in getattr(storage, "once", ()):
        held = held.set(under_next(key), held.get(key))
    return Layout.of(held, storage.ndim)


def _generator_state(generator: torch.Generator | None) -> dict[str, str] | None:
    if generator is None:
        return None
    return {"device": generator.device.type, "state": bytes(generator.get_state().tolist()).hex()}


def _restored(generator: torch.Generator | None, saved: SavedSteps) -> torch.Generator | None:
    """A generator in the state that was saved, or ``None`` if none was, or one of another kind of device."""
    content = saved.content["generator"]
    device = torch.device("cpu") if generator is None else generator.device
    if content is None or content["device"] != device.type:
        return None
    try:
        state = torch.tensor(list(bytes.fromhex(content["state"])), dtype=torch.uint8)
        return torch.Generator(device).set_state(state)
    except (ValueError, RuntimeError, TypeError) as error:
        raise BadDataError(f"The generator saved in {saved.path} is none ({error}); collect the data again.") from error


def _by_key(layout: Layout) -> dict[str, str]:
    return {"/".join(key): f"{list(shape)} {dtype}".replace("torch.", "") for key, dtype, shape in layout.leaves}


def _by_entry(spec: Any, name: str = "") -> dict[str, str]:
    entries = spec.get("entries") if isinstance(spec, dict) and spec.get("kind") == "Composite" else None
    if not isinstance(entries, dict):
        return {name: json.dumps(spec, sort_keys=True)}
    return {k: v for key, leaf in entries.items() for k, v in _by_entry(leaf, f"{name}/{key}".strip("/")).items()}


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
    return "in memory", free_memory()


def _readable(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.4g} TB"
