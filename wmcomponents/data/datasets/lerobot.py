"""LeRobot's data sets (versions 2 and 3 of the layout): tables in parquet, cameras as films."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from wmcomponents._extras import require
from wmcomponents.data.datasets.episodes import EpisodeRows, recording_of, succeeded
from wmcomponents.data.datasets.frames import EncodedRows, FilmRows, sized
from wmcomponents.data.datasets.kinds import bare_key
from wmcomponents.data.datasets.parquet import ParquetColumns
from wmcomponents.data.datasets.recording import Recording
from wmcomponents.data.datasets.rows import Rows, Window
from wmcomponents.data.folder import BadDataError

LARGEST_JSON = 2**28
CAMERAS = ("video", "image")


def lerobot(path: str | Path, *, observations: str | None = None, image_size: int | None = None) -> Recording:
    """A LeRobot data set on this machine: the folder that holds ``meta/info.json``.

    A row holds an observation and the action taken on it; ``next.reward`` is what followed. Observations lose their
    ``observation.`` and ``images.``. An episode terminated if ``next.terminated`` or ``next.success`` says so in its
    last row, or where there is neither, if ``next.done`` does and its last reward is positive.

    Args:
        path: the folder.
        observations: which to keep, by their names with or without ``observation.``, separated by commas; all if not
            given.
        image_size: side of all cameras' frames; their own if not given.
    """
    folder = Path(path)
    info = _info(folder)
    version = str(info.get("codebase_version", ""))
    if not version.startswith(("v2", "v3")):
        raise BadDataError(f"{folder} has the layout {version or 'of no version'}; v2.0, v2.1 and v3.0 are read.")
    listed = (_episodes_v3 if version.startswith("v3") else _episodes_v2)(folder, info)
    features = _chosen(info["features"], observations, folder)
    reader = _Reader(info, features, image_size)
    return recording_of(f"lerobot/{folder.resolve().name}", lambda: map(reader.episode, listed))


@dataclass(frozen=True)
class _Place:
    """Where an episode lies.

    Attributes:
        number: of the episode.
        length: rows.
        table: file of its rows.
        start: first row in that file.
        films: by camera the file, and the second at which the episode begins in it.
    """

    number: int
    length: int
    table: Path
    start: int
    films: Mapping[str, tuple[Path, float]] = field(default_factory=dict)


class _Reader:
    """Opens files as episodes come, and keeps open what the next one may lie in too."""

    def __init__(self, info: Mapping[str, Any], features: Mapping[str, Any], size: int | None) -> None:
        self._fps = float(info["fps"])
        self._known, self._features, self._size = info["features"], features, size
        self._table: ParquetColumns | None = None
        self._films: dict[str, FilmRows] = {}

    def episode(self, place: _Place) -> EpisodeRows:
        where = f"{place.table}: episode {place.number}"
        if self._table is None or self._table.path != place.table:
            self._table = ParquetColumns(place.table)
        table, stop = self._table, place.start + place.length
        if stop > table.count:
            raise BadDataError(f"{where} has rows {place.start} to {stop}, and the file {table.count}.")
        numbers = np.asarray(table.column("episode_index")[place.start : stop]).reshape(-1)
        if (numbers != place.number).any():
            raise BadDataError(f"{where} lies at rows {place.start} to {stop}, which say that they are of another one.")
        seen = {key: self._entry(name, place, where) for key, name in self._features.items()}
        if len(seen) == 1:
            rows = next(iter(seen.values()))
            seen = {bare_key(rows): rows}
        window = {
            name: Window(table.column(name), place.start, stop)
            for name in ("action", "next.reward", "next.done", "next.success", "next.terminated")
            if name in self._known and name in table
        }
        if "action" not in window:
            raise BadDataError(f"{where} has no column 'action', but {sorted(table)}.")
        rewards = window.get("next.reward")
        return EpisodeRows(seen, window["action"], rewards, _terminated(window, rewards, place.length), where)

    def _entry(self, name: str, place: _Place, where: str) -> Rows:
        feature, stop = self._known[name], place.start + place.length
        if feature["dtype"] == "video":
            return self._film(name, place, where)
        column = Window(ParquetColumns.column(_table(self._table), name), place.start, stop)
        if feature["dtype"] == "image":
            return EncodedRows(column, place.length, size=self._size, where=f"{where}, {name}")
        return sized(column, self._size)

    def _film(self, name: str, place: _Place, where: str) -> Rows:
        if name not in place.films:
            raise BadDataError(f"{where} has no film for {name}.")
        path, begins = place.films[name]
        if name not in self._films or self._films[name].path != path:
            self._films[name] = FilmRows(path, size=self._size)
        film = self._films[name]
        first = int(np.abs(np.asarray(film.times) - begins).argmin()) if begins else 0
        if abs(film.times[first] - begins) > 0.5 / self._fps or first + place.length > film.shape[0]:
            raise BadDataError(
                f"{where} has {place.length} rows from second {begins:.3f} of {path} on, which has {film.shape[0]} "
                f"frames, the nearest at {film.times[first]:.3f}."
            )
        return Window(film, first, first + place.length)


def _table(table: ParquetColumns | None) -> ParquetColumns:
    assert table is not None
    return table


def _terminated(window: Mapping[str, Rows], rewards: Rows | None, length: int) -> bool:
    for name in ("next.terminated", "next.success"):
        if name in window:
            return bool(np.asarray(window[name][length - 1 : length]).any())
    is_done = "next.done" in window and bool(np.asarray(window["next.done"][length - 1 : length]).any())
    return is_done and succeeded(rewards)


def _info(folder: Path) -> dict[str, Any]:
    info = _json(folder / "meta" / "info.json")
    good = isinstance(info, dict) and isinstance(info.get("features"), dict)
    good = good and all(isinstance(f, dict) and isinstance(f.get("dtype"), str) for f in info["features"].values())
    fps = info.get("fps") if good else None
    if not good or isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps < math.inf:
        raise BadDataError(f"{folder / 'meta' / 'info.json'} describes no data set: it names no features, or no fps.")
    return info


def _json(file: Path) -> Any:
    try:
        if file.stat().st_size > LARGEST_JSON:
            raise ValueError(f"it has {file.stat().st_size:,} bytes")
        return json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BadDataError(f"{file} cannot be read ({error}): the folder of a LeRobot data set holds it.") from error


def _chosen(features: Mapping[str, Any], names: str | None, folder: Path) -> dict[str, str]:
    """The features that are observed, by the keys that they get."""
    there = [name for name in features if name.startswith("observation") and _is_read(features[name])]
    if names is not None:
        wanted = [name.strip() for name in names.split(",")]
        there = [f if f in features else f"observation.{f}" for f in wanted]
        missing = [name for name in there if name not in features]
        if missing:
            raise BadDataError(f"{folder} has no {', '.join(missing)}, but {sorted(features)}.")
    if not there:
        raise BadDataError(f"{folder} has no observation, but {sorted(features)}.")
    short = {name: name.removeprefix("observation.").removeprefix("images.").replace(".", "_") for name in there}
    if len(set(short.values())) < len(short):
        short = {name: name.replace(".", "_") for name in there}
    return {key: name for name, key in short.items()}


def _is_read(feature: Mapping[str, Any]) -> bool:
    return feature["dtype"] in CAMERAS or feature["dtype"].startswith(("float", "int", "uint", "bool"))


def _episodes_v2(folder: Path, info: Mapping[str, Any]) -> list[_Place]:
    """A table and a film for each episode."""
    file = folder / "meta" / "episodes.jsonl"
    try:
        rows = [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
        size = int(info.get("chunks_size", 1000))
        cameras = [name for name, feature in info["features"].items() if feature["dtype"] == "video"]
        found = []
        for row in rows:
            number = int(row["episode_index"])
            named = {"episode_chunk": number // size, "episode_index": number}
            films = {name: (_inside(folder, info["video_path"], video_key=name, **named), 0.0) for name in cameras}
            found.append(_Place(number, int(row["length"]), _inside(folder, info["data_path"], **named), 0, films))
        return found
    except (OSError, ValueError, KeyError, TypeError, IndexError, ZeroDivisionError, RecursionError) as error:
        raise BadDataError(f"{file} lists no episodes ({type(error).__name__}: {error}).") from error


def _episodes_v3(folder: Path, info: Mapping[str, Any]) -> list[_Place]:
    """Several episodes share a table and a film."""
    pq = require("pyarrow.parquet", extra="datasets")
    files = sorted((folder / "meta" / "episodes").glob("*/*.parquet"))
    if not files:
        raise BadDataError(f"{folder} has no table of episodes, meta/episodes/chunk-000/file-000.parquet.")
    cameras = [name for name, feature in info["features"].items() if feature["dtype"] == "video"]
    columns = ["episode_index", "length", "data/chunk_index", "data/file_index"]
    columns += [f"videos/{name}/{what}" for name in cameras for what in ("chunk_index", "file_index", "from_timestamp")]
    try:
        rows = [row for file in files for row in pq.read_table(file, columns=columns, use_threads=False).to_pylist()]
        found, filled = [], {}
        for row in sorted(rows, key=lambda row: row["episode_index"]):
            table = _inside(
                folder, info["data_path"], chunk_index=row["data/chunk_index"], file_index=row["data/file_index"]
            )
            films = {
                name: (
                    _inside(
                        folder,
                        info["video_path"],
                        video_key=name,
                        chunk_index=row[f"videos/{name}/chunk_index"],
                        file_index=row[f"videos/{name}/file_index"],
                    ),
                    float(row[f"videos/{name}/from_timestamp"]),
                )
                for name in cameras
            }
            start = filled.get(table, 0)
            filled[table] = start + int(row["length"])
            found.append(_Place(int(row["episode_index"]), int(row["length"]), table, start, films))
        return found
    except BadDataError:
        raise
    except Exception as error:  # whatever pyarrow raises for a damaged file
        raise BadDataError(f"{files[0]} lists no episodes ({type(error).__name__}: {error}).") from error


def _inside(folder: Path, template: str, **named: Any) -> Path:
    """A file of the data set; one that its description places elsewhere is refused."""
    path = folder / template.format(**named)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BadDataError(f"{folder} names a file outside of itself, {path}.")
    return path
