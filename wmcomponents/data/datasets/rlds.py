"""RLDS and Open X-Embodiment: TFDS folders of TFRecord files, one episode a record, read without TensorFlow."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wmcomponents.data.datasets.episodes import EpisodeRows, recording_of
from wmcomponents.data.datasets.frames import EncodedRows, sized
from wmcomponents.data.datasets.kinds import bare_key
from wmcomponents.data.datasets.recording import Recording
from wmcomponents.data.datasets.rows import Rows, Window
from wmcomponents.data.datasets.tfrecord import Values, example, records
from wmcomponents.data.folder import BadDataError

LARGEST_JSON = 2**24
FLAGS = ("is_first", "is_last", "is_terminal")


def rlds(
    path: str | Path,
    *,
    split: str = "train",
    observations: str | None = None,
    actions: str = "action",
    image_size: int | None = None,
) -> Recording:
    """A TFDS folder (with ``features.json``) whose examples are episodes of ``steps``, as RLDS lays them out.

    A step holds an observation, the action taken on it and the reward that followed. What the last step says of them
    means nothing, so that an episode of n steps has n - 1 actions; it terminated if the last step ``is_terminal``.
    Files in TFRecord are read; data sets in ArrayRecord are converted by TFDS first (``tfds convert_format``).

    Args:
        path: the folder.
        split: which of the data set's.
        observations: which to keep, by their names below ``observation``, separated by commas; all that are numbers or
            images if not given.
        actions: name of the action; several that are joined, or a mapping, separated by commas.
        image_size: side of all images; their own if not given.
    """
    folder = Path(path)
    features = _features(folder)
    files = sorted(folder.glob(f"*-{split}.tfrecord*"))
    if not files:
        others = sorted(file.name for file in folder.iterdir() if file.is_file())[:9]
        raise BadDataError(
            f"{folder} holds no file *-{split}.tfrecord*, but {others}. Another split is --options split=NAME; "
            f"files of another format are converted by TensorFlow Datasets: tfds convert_format --file_format=tfrecord."
        )
    seen = _below(features, "steps/observation", observations, folder)
    took = {
        name: leaf
        for each in actions.split(",")
        for name, leaf in _below(features, f"steps/{each}", None, folder).items()
    }

    def episodes() -> Iterator[EpisodeRows]:
        for file in files:
            for number, record in enumerate(records(file)):
                yield _episode(record, seen, took, image_size, f"{file}: record {number}")

    return recording_of(f"rlds/{folder.resolve().name}", episodes)


def _episode(
    record: bytes, seen: Mapping[str, Any], took: Mapping[str, Any], size: int | None, where: str
) -> EpisodeRows:
    try:
        held = example(record)
    except (ValueError, UnicodeDecodeError) as error:
        raise BadDataError(f"{where} is no tf.train.Example ({error}).") from error
    last = held.get("steps/is_last", held.get("steps/is_first"))
    if last is None or not len(last):
        raise BadDataError(f"{where} has no steps/is_last: it is no episode as RLDS lays them out.")
    count = len(last)
    if count < 2:
        raise BadDataError(f"{where} has {count} step: an episode is at least an observation, and what followed it.")
    shown = {
        name.removeprefix("steps/observation/"): _rows(held, name, leaf, count, size, where)
        for name, leaf in seen.items()
    }
    keys = {name: name.replace("/", "_") for name in shown}
    observations = {keys[name]: rows for name, rows in shown.items()}
    if len(observations) == 1:
        observations = {bare_key(rows): rows for rows in observations.values()}
    acts = [
        np.asarray(_rows(held, name, leaf, count, None, where)[0:count]).reshape(count, -1)
        for name, leaf in took.items()
    ]
    action = acts[0] if len(acts) == 1 else np.concatenate([each.astype(np.float32) for each in acts], 1)
    reward, ended = held.get("steps/reward"), held.get("steps/is_terminal")
    if reward is not None and len(reward) != count:
        raise BadDataError(f"{where} has {len(reward)} rewards for {count} steps.")
    return EpisodeRows(
        observations,
        Window(action, 0, count - 1),
        None if reward is None else Window(np.asarray(reward, np.float32), 0, count - 1),
        ended is not None and len(ended) == count and bool(ended[-1]),
        where,
    )


def _rows(held: Mapping[str, Values], name: str, leaf: Any, count: int, size: int | None, where: str) -> Rows:
    values = held.get(name)
    if values is None:
        raise BadDataError(f"{where} has no {name}, which features.json names.")
    if "image" in leaf:
        channels = int((_shape(leaf["image"]) or [3])[-1])
        if len(values) != count or not isinstance(values, list):
            raise BadDataError(f"{where} has {len(values)} of {name} for {count} steps.")
        return EncodedRows(values, count, size=size, channels=1 if channels == 1 else 3, where=f"{where}, {name}")
    shape, dtype = _shape(leaf["tensor"]), np.dtype(leaf["tensor"]["dtype"])
    if isinstance(values, list):
        raise BadDataError(
            f"{where} keeps {name} as bytes (encoding {leaf['tensor'].get('encoding')}); it is not read."
        )
    if len(values) != count * math.prod(shape):
        raise BadDataError(f"{where} has {len(values)} numbers of {name} for {count} steps of {shape}.")
    return sized(values.reshape(count, *shape).astype(dtype), size)


def _features(folder: Path) -> Mapping[str, Any]:
    """Leaves of ``features.json`` by their paths."""
    file = folder / "features.json"
    try:
        if file.stat().st_size > LARGEST_JSON:
            raise ValueError(f"it has {file.stat().st_size:,} bytes")
        told = json.loads(file.read_bytes())
        if not isinstance(told, dict) or "featuresDict" not in told:
            raise ValueError("it names no features")
        return dict(_leaves(told, ""))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadDataError(
            f"{file} describes no data set of TFDS ({error}): the folder of one version holds it."
        ) from error


def _leaves(feature: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    if "featuresDict" in feature:
        for name, each in feature["featuresDict"]["features"].items():
            yield from _leaves(each, f"{path}/{name}".strip("/"))
    elif "sequence" in feature:
        yield from _leaves(feature["sequence"]["feature"], path)
    else:
        yield path, feature


def _below(features: Mapping[str, Any], place: str, names: str | None, folder: Path) -> dict[str, Any]:
    """The leaves at or below a place that are numbers or images; of these the named ones."""
    wanted = None if names is None else [f"{place}/{name.strip()}" for name in names.split(",")]
    found = {
        path: leaf
        for path, leaf in features.items()
        if (path == place or path.startswith(f"{place}/")) and _is_read(leaf) and (wanted is None or path in wanted)
    }
    missing = [path for path in wanted or () if path not in found]
    if missing or not found:
        raise BadDataError(f"{folder} has no numbers or images in {missing or place}; it has {sorted(features)[:30]}.")
    return found


def _is_read(leaf: Any) -> bool:
    if "image" in leaf:
        return True
    return "tensor" in leaf and str(leaf["tensor"].get("dtype", "")).startswith(("float", "int", "uint", "bool"))


def _shape(leaf: Mapping[str, Any]) -> list[int]:
    return [int(size) for size in (leaf.get("shape") or {}).get("dimensions", ())]
