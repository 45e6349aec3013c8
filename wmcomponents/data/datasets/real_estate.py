"""RealEstate10K: films of rooms, with the camera of every frame; the camera's movements are the actions."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from wmcomponents.data.datasets.episodes import EpisodeRows, recording_of
from wmcomponents.data.datasets.frames import FILMS, IMAGES, FilmRows, ImageFileRows
from wmcomponents.data.datasets.recording import Recording
from wmcomponents.data.datasets.rows import Rows
from wmcomponents.data.folder import BadDataError

NUMBERS = 19
LARGEST_FILE = 2**26
NAMES = ("right", "down", "forward", "turn.x", "turn.y", "turn.z")
"""What each number of an action says: how far the camera moves along its own axes, and about which axis it turns."""


def real_estate(path: str | Path, *, frames: str | None = None, image_size: int | None = None) -> Recording:
    """Camera files ``ID.txt``, and for each a film ``ID.mp4`` or a folder ``ID`` of images named by their times.

    An action is the next camera as the present one sees it: three numbers of translation (right, down, forward), and
    the axis times the angle, in radians, of the rotation. Translations have no unit in these data, since each clip was
    reconstructed up to a scale: in every clip the farthest camera is 1 from the first. The films are not distributed
    with the cameras.

    Args:
        path: the folder of the camera files.
        frames: the folder of the films or images; that of the camera files if not given.
        image_size: side of the frames, which are squeezed into a square; their own size if not given.
    """
    path = Path(path)
    place = path if frames is None else Path(frames)
    clips = [clip for clip in sorted(path.rglob("*.txt")) if _frames_of(clip, place) is not None]
    if not clips:
        raise BadDataError(f"{path} holds no camera file ID.txt of which {place} has the film ID.mp4 or the folder ID.")

    def episodes() -> Iterator[EpisodeRows]:
        for clip in clips:
            times, poses = read_cameras(clip)
            if len(times) > 1:
                yield EpisodeRows(
                    {"pixels": _shown(clip, place, times, image_size)}, movements(poses), None, False, str(clip)
                )

    facts = {"action_names": list(NAMES)}
    return recording_of(f"realestate10k/{path.resolve().name}", episodes, facts=facts)


def read_cameras(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """The cameras of a clip.

    Args:
        file: a line of text, then for each frame 19 numbers: its time in microseconds, the intrinsics, two zeros, and
            the 3 x 4 matrix from the world to the camera, row by row.

    Returns:
        Times ``[n]`` in microseconds, and matrices ``[n, 4, 4]`` from the world to the camera.

    Raises:
        BadDataError: if it is no such file.
    """
    try:
        if file.stat().st_size > LARGEST_FILE:
            raise ValueError(f"it has {file.stat().st_size:,} bytes")
        rows = [line.split() for line in file.read_text().splitlines()[1:]]
        numbers = [[float(word) for word in row] for row in rows if len(row) == NUMBERS]
        others = [row for row in rows if row and len(row) != NUMBERS]
        if len(others) > 1 or not numbers:  # some copies hold a caption below the address
            raise ValueError(f"a line has {len(others[0]) if others else 0} numbers, not {NUMBERS}")
        table = np.asarray(numbers)
        poses = np.tile(np.eye(4), (len(table), 1, 1))
        poses[:, :3] = table[:, 7:].reshape(-1, 3, 4)
        if not np.isfinite(table).all() or np.abs(np.linalg.det(poses[:, :3, :3]) - 1).max() > 1e-2:
            raise ValueError("a matrix of it is no rotation")
        if (np.diff(table[:, 0]) <= 0).any():
            raise ValueError("its times do not rise")
        return table[:, 0], poses
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise BadDataError(f"{file} holds no cameras of a clip ({error}).") from error


def movements(poses: np.ndarray) -> np.ndarray:
    """From camera to camera: ``[n, 4, 4]`` from the world to each, to ``[n - 1, 6]``, as :data:`NAMES` says."""
    to_world = np.linalg.inv(poses)
    centres = to_world[:, :3, 3]
    farthest = np.linalg.norm(centres - centres[0], axis=1).max()
    following = poses[:-1] @ to_world[1:]  # the next camera in the axes of the present one
    moved = following[:, :3, 3] / (farthest if farthest > 1e-9 else 1.0)
    return np.concatenate([moved, _rotation_vectors(following[:, :3, :3])], 1).astype(np.float32)


def _rotation_vectors(rotations: np.ndarray) -> np.ndarray:
    """Axis times angle of rotations ``[n, 3, 3]`` by less than a half turn."""
    skew = np.stack(
        [
            rotations[:, 2, 1] - rotations[:, 1, 2],
            rotations[:, 0, 2] - rotations[:, 2, 0],
            rotations[:, 1, 0] - rotations[:, 0, 1],
        ],
        1,
    )
    sine = np.linalg.norm(skew, axis=1) / 2
    cosine = (np.trace(rotations, axis1=1, axis2=2) - 1) / 2
    angle = np.arctan2(sine, cosine)
    scale = np.where(sine > 1e-9, angle / np.maximum(2 * sine, 1e-12), 0.5)
    return skew * scale[:, None]


def _frames_of(clip: Path, place: Path) -> Path | None:
    """The film or the folder of a clip."""
    folders = [place, place / clip.parent.name]
    names = [folder / f"{clip.stem}{suffix}" for folder in folders for suffix in ("", *FILMS)]
    return next((name for name in names if name.is_dir() or (name.suffix and name.is_file())), None)


def _shown(clip: Path, place: Path, times: np.ndarray, size: int | None) -> Rows:
    found = _frames_of(clip, place)
    assert found is not None
    if found.is_dir():
        named = {int(file.stem): file for file in found.iterdir() if file.suffix in IMAGES and file.stem.isdigit()}
        missing = [int(time) for time in times if int(time) not in named]
        if missing:
            raise BadDataError(
                f"{found} holds no image of the time {missing[0]} of {clip} (nor {len(missing) - 1} more)."
            )
        return ImageFileRows([named[int(time)] for time in times], size=size)
    film = FilmRows(found, size=size)
    if film.shape[0] == len(times):
        return film
    return FilmRows(found, size=size, at=((times - times[0]) / 1e6).tolist())
