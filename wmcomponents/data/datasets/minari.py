"""Minari's data sets, and what environments wrapped in its ``DataCollector`` record."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torchrl.data import Bounded, Composite, TensorSpec

from wmcomponents._extras import require
from wmcomponents.codecs import SpaceError, action_spec_from_space, observation_spec_from_space
from wmcomponents.data.datasets.episodes import EpisodeRows, recording_of
from wmcomponents.data.datasets.frames import EncodedRows, sized
from wmcomponents.data.datasets.hdf5_rows import checked, child, flags, opened
from wmcomponents.data.datasets.kinds import box_of
from wmcomponents.data.datasets.recording import Piece, Recording
from wmcomponents.data.datasets.rows import Rows, episode_pieces
from wmcomponents.data.folder import BadDataError

LARGEST_METADATA = 2**24


def minari(path: str | Path, *, image_size: int | None = None, clip: bool = False) -> Recording:
    """A Minari data set on this machine: the folder that holds ``data/``, or its id, such as ``D4RL/pen/human-v2``.

    ``minari download ID`` brings one here. Entries of nested spaces are joined by ``_``; texts are left out. Spaces are
    read from the data set, and no environment is made.

    Args:
        path: the folder, or the id.
        image_size: side of all images; their own if not given.
        clip: bring actions into their box, as the environments do that clip them themselves.
    """
    folder = _folder(path)
    metadata = _metadata(folder)
    observed, action_spec, left_out = _spaces(metadata, folder)
    name = f"minari/{metadata.get('dataset_id') or folder.parent.name}"
    notes = tuple(f"Left out, since it is no number: {'/'.join(each)}." for each in left_out)
    spec = _spec(observed, image_size)
    facts = {"env_id": _env_id(metadata)} if _env_id(metadata) else None
    reader = _Reader(observed, spec, action_spec if clip else None, metadata, image_size)
    if metadata.get("data_format", "hdf5") != "hdf5":
        steps, count = metadata.get("total_steps"), metadata.get("total_episodes")
        if type(steps) is not int or type(count) is not int or min(steps, count) < 1:
            raise BadDataError(f"{folder} does not say how much it holds: {steps} steps in {count} episodes.")
        return Recording(name, spec, action_spec, steps, lambda: reader.arrow(folder), count, notes, facts)
    return recording_of(
        name, lambda: reader.hdf5(folder), observation_spec=spec, action_spec=action_spec, notes=notes, facts=facts
    )


class _Reader:
    """Reads the episodes of a data set, of which the spaces are known."""

    def __init__(
        self,
        observed: dict[tuple[str, ...], Any],
        spec: Composite,
        box: TensorSpec | None,
        metadata: Mapping[str, Any],
        size: int | None,
    ) -> None:
        self._observed, self._keys, self._size = observed, [str(key) for key in spec.keys()], size
        self._box = box if isinstance(box, Bounded) else None
        self._is_encoded = bool(metadata.get("jpeg_encoding", True))

    def hdf5(self, folder: Path) -> Iterator[EpisodeRows]:
        with opened(folder / "main_data.hdf5") as file:
            for number in range(len(file)):
                where = f"{folder}: episode_{number}"
                group = child(file, f"episode_{number}")
                if group is None:
                    raise BadDataError(f"{where} is missing, and there are {len(file)} episodes.")
                seen = {
                    key: self._entry(child(group, "/".join(("observations", *place))), space, where)
                    for key, (place, space) in zip(self._keys, self._observed.items(), strict=True)
                }
                parts = {name: child(group, name) for name in ("actions", "rewards", "terminations")}
                missing = [name for name, part in parts.items() if part is None]
                if missing:
                    raise BadDataError(f"{where} has no {', '.join(missing)}.")
                ended = flags(parts["terminations"])
                yield EpisodeRows(
                    seen,
                    self._clipped(checked(parts["actions"])),
                    checked(parts["rewards"]),
                    bool(len(ended) and ended[-1]),
                    where,
                )

    def arrow(self, folder: Path) -> Iterator[Piece]:
        """Minari reads these itself, an episode at a time."""
        data = require("minari", extra="datasets").MinariDataset(folder)
        for episode in data.iterate_episodes():
            seen = {}
            for key, place in zip(self._keys, self._observed, strict=True):
                value = episode.observations
                for part in place:
                    value = value[int(part.removeprefix("_index_"))] if isinstance(value, tuple) else value[part]
                seen[key] = sized(np.asarray(value), self._size)
            yield from episode_pieces(
                seen,
                self._clipped(np.asarray(episode.actions)),
                np.asarray(episode.rewards),
                terminated=bool(episode.terminations[-1]),
                where=f"{folder}: episode {episode.id}",
            )

    def _entry(self, dataset: Any, space: Any, where: str) -> Rows:
        if dataset is None:
            raise BadDataError(f"{where} lacks an observation that its space has.")
        if self._is_encoded and _is_image(space):
            channels = 1 if len(space.shape) == 2 or space.shape[-1] == 1 else 3
            images = EncodedRows(dataset, len(dataset), size=self._size, channels=channels, where=where)
            return images if len(space.shape) == 3 else _Reshaped(images, images.shape[1:3])
        return sized(checked(dataset), self._size)

    def _clipped(self, actions: Rows) -> Rows:
        return actions if self._box is None else _Clipped(actions, self._box)


class _Clipped:
    """Actions, brought into their box."""

    def __init__(self, rows: Rows, box: Bounded) -> None:
        self._rows, self.shape, self.dtype = rows, rows.shape, rows.dtype
        self._low, self._high = (bound.numpy().reshape(rows.shape[1:]) for bound in box_of(box))

    def __getitem__(self, index: slice) -> np.ndarray:
        return self._rows[index].clip(self._low, self._high)


class _Reshaped:
    """Rows of another shape."""

    def __init__(self, rows: Rows, shape: tuple[int, ...]) -> None:
        self._rows, self.shape, self.dtype = rows, (rows.shape[0], *shape), rows.dtype

    def __getitem__(self, index: slice) -> np.ndarray:
        return self._rows[index].reshape(-1, *self.shape[1:])


def _folder(path: str | Path) -> Path:
    """The folder of the data."""
    root = Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")
    places = [Path(path) / "data", Path(path), root / path / "data"]
    found = next((place for place in places if (place / "metadata.json").is_file()), None)
    if found is None:
        raise BadDataError(
            f"{path} is neither the folder of a Minari data set (it holds no data/metadata.json) nor the id of one in "
            f"{root}. Bring one there by: minari download {path}"
        )
    return found


def _metadata(folder: Path) -> dict[str, Any]:
    file = folder / "metadata.json"
    try:
        if file.stat().st_size > LARGEST_METADATA:
            raise ValueError(f"it has {file.stat().st_size:,} bytes")
        metadata = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BadDataError(f"{file} is no description of a data set ({error}).") from error
    spaces = ("observation_space", "action_space")
    if not isinstance(metadata, dict) or not all(isinstance(metadata.get(name), str) for name in spaces):
        raise BadDataError(
            f"{file} does not hold the spaces of the data set, and no environment is made to ask for them: write the "
            f"data set again with Minari 0.5 or later."
        )
    return metadata


def _spaces(
    metadata: Mapping[str, Any], folder: Path
) -> tuple[dict[tuple[str, ...], Any], TensorSpec, list[tuple[str, ...]]]:
    """By its place each observation's space, the spec of an action, and the places of what is no number."""
    serialization = require("minari.serialization", extra="datasets")
    observed, action = (
        serialization.deserialize_space(metadata[name]) for name in ("observation_space", "action_space")
    )
    kept, left_out = {}, []
    for place, space in _leaves(observed):
        if type(space).__name__ in ("Box", "Discrete", "MultiDiscrete", "MultiBinary"):
            kept[place] = space
        else:
            left_out.append(place)
    if not kept:
        raise BadDataError(f"{folder} observes {observed}, and nothing of it is numbers.")
    try:
        return kept, action_spec_from_space(action), left_out
    except SpaceError as error:
        raise BadDataError(f"{folder}: {error}") from error


def _leaves(space: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    kind = type(space).__name__
    if kind == "Dict":
        for name, each in space.spaces.items():
            yield from _leaves(each, (*place, name))
    elif kind == "Tuple":
        for number, each in enumerate(space.spaces):
            yield from _leaves(each, (*place, f"_index_{number}"))
    else:
        yield place, space


def _spec(observed: Mapping[tuple[str, ...], Any], size: int | None) -> Composite:
    spaces = require("gymnasium.spaces", extra="gym")
    named = {"_".join(part.removeprefix("_index_") for part in place): _sized(s, size) for place, s in observed.items()}
    if list(named) == [""]:
        return observation_spec_from_space(named[""])
    try:
        return observation_spec_from_space(spaces.Dict(list(named.items())))
    except SpaceError as error:
        raise BadDataError(str(error)) from error


def _sized(space: Any, size: int | None) -> Any:
    is_image = type(space).__name__ == "Box" and space.dtype == np.uint8 and len(space.shape) in (2, 3)
    if size is None or not is_image or min(space.shape[:2]) < 16 or space.shape[2:] not in ((), (1,), (3,)):
        return space
    return type(space)(0, 255, (size, size, *space.shape[2:]), np.uint8)


def _is_image(space: Any) -> bool:
    return require("minari.dataset.minari_storage", extra="datasets").is_image_space(space)


def _env_id(metadata: Mapping[str, Any]) -> str | None:
    try:
        found = json.loads(metadata.get("env_spec") or "null")
        return found["id"] if isinstance(found, dict) and isinstance(found.get("id"), str) else None
    except (ValueError, TypeError, RecursionError):
        return None
