"""Minecraft as it was recorded for VPT: films of 20 frames a second, and a line of JSON for each frame."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchrl.data import Bounded

from wmcomponents.data.datasets.episodes import EpisodeRows, recording_of
from wmcomponents.data.datasets.frames import FilmRows
from wmcomponents.data.datasets.recording import Recording
from wmcomponents.data.datasets.rows import Window
from wmcomponents.data.folder import BadDataError

KEYS = {
    **{"w": "forward", "s": "back", "a": "left", "d": "right", "space": "jump", "left.shift": "sneak"},
    **{"left.control": "sprint", "e": "inventory", "q": "drop", "f": "swapHands", "escape": "ESC"},
    **{str(number): f"hotbar.{number}" for number in range(1, 10)},
}
BUTTONS = ("attack", "use", "pickItem")
NAMES = (*KEYS.values(), *BUTTONS, "camera.pitch", "camera.yaw")
"""What each number of an action says: keys and buttons are held (1) or not (0), the camera turns by degrees."""

DEGREES_PER_PIXEL = 360.0 / 2400.0
LARGEST_LINE = 2**20


def minecraft(path: str | Path, *, image_size: int | None = None, camera: float = 10.0) -> Recording:
    """A folder of films and of ``.jsonl`` files of the same names, as VPT's contractors recorded them.

    Line t says what was held and how far the mouse moved at frame t, and led to frame t + 1. As the paper's loader
    does, an attack that is stuck from the first line on is left out until the button is pressed anew, and a change of
    the hotbar by the wheel counts as its key. The cursor in menus is not drawn.

    Args:
        path: the folder.
        image_size: side of the frames, which are squeezed into a square; their own size if not given.
        camera: degrees a frame beyond which a turn is clipped, as VPT does.
    """
    path = Path(path)
    films = [film for film in sorted(path.rglob("*.mp4")) if film.with_suffix(".jsonl").is_file()]
    if not films:
        raise BadDataError(f"{path} holds no film with a .jsonl of its name beside it.")
    if not 0 < camera <= 180:
        raise BadDataError(f"camera is a number of degrees up to 180; got {camera}.")
    low = torch.tensor([0.0] * (len(NAMES) - 2) + [-camera] * 2)
    high = torch.tensor([1.0] * (len(NAMES) - 2) + [camera] * 2)

    def episodes() -> Iterator[EpisodeRows]:
        for film in films:
            frames, actions = FilmRows(film, size=image_size), _actions(film.with_suffix(".jsonl"), camera)
            count = min(frames.shape[0], len(actions))
            if max(frames.shape[0], len(actions)) - count > max(2, count // 50):
                raise BadDataError(f"{film} has {frames.shape[0]} frames, and its .jsonl {len(actions)} lines.")
            if count > 1:
                yield EpisodeRows({"pixels": Window(frames, 0, count)}, actions[:count], None, False, str(film))

    spec = Bounded(low, high, torch.Size([len(NAMES)]))
    facts = {"action_names": list(NAMES)}
    return recording_of(f"minecraft/{path.resolve().name}", episodes, action_spec=spec, facts=facts)


def _actions(file: Path, camera: float) -> np.ndarray:
    """``[n, len(NAMES)]``."""
    rows = []
    is_stuck, slot = False, 0
    with file.open("rb") as lines:
        for number, line in enumerate(iter(lambda: lines.readline(LARGEST_LINE), b"")):
            try:
                said = json.loads(line)
                mouse, keys = said["mouse"], said["keyboard"]["keys"]
                pressed = list(mouse["newButtons"])
                held = set(mouse["buttons"])
                if number == 0:
                    is_stuck = pressed == [0]
                elif 0 in pressed:
                    is_stuck = False
                if is_stuck:
                    held.discard(0)
                now = int(said.get("hotbar", slot))
                row = _row(keys, held, now + 1 if now != slot else None, mouse, camera)
                slot = now
            except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
                raise BadDataError(f"{file}, line {number + 1}, is none of a recording ({error!r}).") from error
            rows.append(row)
    if not rows:
        raise BadDataError(f"{file} is empty.")
    return np.asarray(rows, np.float32)


def _row(keys: list[Any], held: set[Any], chosen: int | None, mouse: dict[str, Any], camera: float) -> list[float]:
    names = {KEYS[key.removeprefix("key.keyboard.")] for key in keys if key.removeprefix("key.keyboard.") in KEYS}
    names |= {name for button, name in enumerate(BUTTONS) if button in held}
    if chosen is not None:
        names.add(f"hotbar.{chosen}")
    turned = [float(mouse[axis]) * DEGREES_PER_PIXEL for axis in ("dy", "dx")]
    clipped = [max(-camera, min(camera, degrees)) for degrees in turned]
    return [float(name in names) for name in NAMES[:-2]] + clipped
