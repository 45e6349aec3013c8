"""CARLA: a folder an episode, with the camera's images and what was measured and steered at each."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchrl.data import Bounded

from wmcomponents.data.datasets.episodes import EpisodeRows, recording_of
from wmcomponents.data.datasets.frames import IMAGES, ImageFileRows
from wmcomponents.data.datasets.recording import Recording
from wmcomponents.data.datasets.rows import Rows, Window
from wmcomponents.data.folder import BadDataError

BOXES = {"steer": (-1, 1), "throttle": (0, 1), "brake": (0, 1), "hand_brake": (0, 1), "reverse": (0, 1)}
"""Of the entries of ``carla.VehicleControl``."""
LARGEST_LINE = 2**22


def carla(
    path: str | Path,
    *,
    camera: str = "rgb",
    actions: str = "steer,throttle,brake",
    measured: str = "",
    rewards: str | None = None,
    image_size: int | None = None,
) -> Recording:
    """A folder with one folder an episode, each with images and measurements of the same ticks.

    The images are ``CAMERA/000000.png`` and so on; the measurements a line each in ``measurements.jsonl``, or a file
    each in ``measurements/``. Entries of measurements that lie in others are named with dots (``control.steer``); an
    entry of ``control`` also by its own name. The control of a tick led to the next image.

    Args:
        path: the folder.
        camera: name of the images' folder.
        actions: entries that make an action, separated by commas.
        measured: entries that are observed beside the images, such as ``speed``.
        rewards: entry of the reward; there are none if not given.
        image_size: side of the images, which are squeezed into a square; their own size if not given.
    """
    path = Path(path)
    found = sorted(folder.parent for folder in path.rglob(camera) if folder.is_dir())
    if not found:
        raise BadDataError(f"{path} holds no folder {camera!r} of images: name the camera's, --options camera=NAME.")
    names = [name.strip() for name in actions.split(",") if name.strip()]
    extra = [name.strip() for name in measured.split(",") if name.strip()]
    short = [name.rpartition(".")[2] for name in names]
    known = [BOXES[name] for name in short if name in BOXES]
    spec = None
    if len(known) == len(names):
        bounds = torch.tensor(known, dtype=torch.float32)
        spec = Bounded(bounds[:, 0], bounds[:, 1], torch.Size([len(names)]))

    def episodes() -> Iterator[EpisodeRows]:
        for folder in found:
            images = sorted((f for f in (folder / camera).iterdir() if f.suffix.lower() in IMAGES), key=_number)
            said = _measurements(folder)
            if len(said) != len(images):
                raise BadDataError(
                    f"{folder} has {len(images)} images and {len(said)} measurements: one of each a tick."
                )
            if len(images) < 2:
                continue
            frames = Window(ImageFileRows(images, size=image_size), 0, len(images))
            seen: dict[str, Rows] = {"pixels": frames}
            if extra:
                seen["measured"] = _column(said, extra, folder)
            earned = None if rewards is None else _column(said, [rewards], folder)
            yield EpisodeRows(seen, _column(said, names, folder), earned, False, str(folder))

    facts = {"action_names": names}
    return recording_of(f"carla/{path.resolve().name}", episodes, action_spec=spec, facts=facts)


def _number(file: Path) -> tuple[int, str]:
    return (int(file.stem) if file.stem.isdigit() else -1, file.name)


def _measurements(folder: Path) -> list[dict[str, Any]]:
    file, several = folder / "measurements.jsonl", folder / "measurements"
    try:
        if file.is_file():
            with file.open("rb") as lines:
                found = [json.loads(line) for line in iter(lambda: lines.readline(LARGEST_LINE), b"") if line.strip()]
        elif several.is_dir():
            found = [json.loads(each.read_bytes()) for each in sorted(several.glob("*.json"), key=_number)]
        else:
            raise BadDataError(f"{folder} holds neither measurements.jsonl nor measurements/*.json.")
    except (OSError, ValueError, RecursionError) as error:
        raise (
            error
            if isinstance(error, BadDataError)
            else BadDataError(f"{folder} has measurements that are no JSON ({error}).")
        ) from error
    if not all(isinstance(each, dict) for each in found):
        raise BadDataError(f"{folder} has measurements that are no mappings of names to numbers.")
    return found


def _column(said: list[dict[str, Any]], names: list[str], folder: Path) -> np.ndarray:
    """``[n, len(names)]``."""
    try:
        return np.asarray([[_value(each, name) for name in names] for each in said], np.float32)
    except (KeyError, TypeError, ValueError) as error:
        raise BadDataError(
            f"{folder} has a measurement without a number {error}; it has {sorted(said[0])}: name its entries, "
            f"--options actions=NAME,NAME."
        ) from error


def _value(said: dict[str, Any], name: str) -> float:
    value: Any = said
    for part in name.split("."):
        inner = value.get("control")
        value = value[part] if part in value or not isinstance(inner, dict) else inner[part]
    return float(value)
