"""A folder of films, one an episode, with the actions beside them."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torchrl.data import OneHot

from wmcomponents.data.datasets.arrays import NAMES
from wmcomponents.data.datasets.episodes import EpisodeRows, recording_of
from wmcomponents.data.datasets.frames import FILMS, FilmRows
from wmcomponents.data.datasets.npz import NpzFile
from wmcomponents.data.datasets.recording import Recording
from wmcomponents.data.datasets.rows import Rows
from wmcomponents.data.folder import BadDataError

ALONE = "none"
NO_ACTIONS = (
    "There are no actions: one choice, always taken, stands for them. A model learns what comes next by itself, and "
    "nothing can act in it."
)


def video(
    path: str | Path, *, actions: str | None = None, image_size: int | None = None, fps: float | None = None
) -> Recording:
    """A folder of films (or one film), each of them an episode, shown as ``pixels``.

    The actions of ``clip.mp4`` are in ``clip.npz`` beside it (``actions``, and if there are such ``rewards`` and
    ``terminated``), in ``clip.npy`` or in ``clip.csv`` (a column for each number); or ``actions`` names one ``.npz``
    file with an array for each film, called as the film is. Action t was taken on seeing frame t: of n frames there are
    n - 1 actions, or n, of which the last led to nothing that was filmed.

    Args:
        path: the folder.
        actions: a file with the actions of all films; or ``none``, for films alone.
        image_size: side of the frames, which are squeezed into a square; their own size if not given.
        fps: frames a second that are kept, with an action for each that is kept; all if not given. A film that shows
            fewer is refused.
    """
    path = Path(path)
    films = sorted(file for file in path.rglob("*") if file.suffix.lower() in FILMS) if path.is_dir() else [path]
    if not films:
        raise BadDataError(f"{path} holds no film ({', '.join(FILMS)}).")
    shared = _shared(actions, path)
    opened = [FilmRows(film, size=image_size, fps=fps) for film in films]
    spec = OneHot(1, dtype=torch.int64) if actions == ALONE else None

    def episodes() -> Iterator[EpisodeRows]:
        for film, frames in zip(films, opened, strict=True):
            took, earned, died = _taken(film, frames.shape[0], actions, shared)
            yield EpisodeRows({"pixels": frames}, took, earned, died, str(film))

    notes = (NO_ACTIONS,) if actions == ALONE else ()
    return recording_of(f"video/{path.stem}", episodes, action_spec=spec, notes=notes)


def _shared(actions: str | None, path: Path) -> dict[str, np.ndarray] | None:
    """The arrays of one file for all films."""
    if actions is None or actions == ALONE:
        return None
    file = next((one for one in (Path(actions), path / actions) if one.is_file()), None)
    if file is None:
        raise BadDataError(f"actions={actions}: there is no such file, nor is there one in {path}.")
    with NpzFile(file) as held:
        return {name: _loaded(rows) for name, rows in held.items()}


def _taken(
    film: Path, frames: int, actions: str | None, shared: dict[str, np.ndarray] | None
) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """Actions, rewards and whether it terminated."""
    if actions == ALONE:
        return np.zeros(max(0, frames - 1), np.int64), None, False
    if shared is not None:
        if film.stem not in shared:
            raise BadDataError(f"{actions} holds no array {film.stem!r} for {film}, but {sorted(shared)[:9]}.")
        return shared[film.stem], None, False
    beside = next((film.with_suffix(end) for end in (".npz", ".npy", ".csv") if film.with_suffix(end).is_file()), None)
    if beside is None:
        raise BadDataError(
            f"{film} has no actions beside it, and a world model learns what actions lead to. Put {film.stem}.npz, "
            f".npy or .csv there, with one row for each frame but the last; or name a file of them all, --options "
            f"actions=FILE.npz; or say that there are none, --options actions={ALONE}: a model then predicts the film "
            f"alone, and nothing can act in it."
        )
    if beside.suffix == ".npz":
        with NpzFile(beside) as held:
            found = {what: next((_loaded(held[n]) for n in names if n in held), None) for what, names in NAMES.items()}
        if found["actions"] is None:
            raise BadDataError(f"{beside} holds no array 'actions'.")
        died = found["terminated"]
        return found["actions"], found["rewards"], died is not None and bool(died.reshape(-1)[-1:].any())
    return (_table(beside) if beside.suffix == ".csv" else _npy(beside)), None, False


def _loaded(rows: Rows) -> np.ndarray:
    return rows[0 : rows.shape[0]]


def _npy(file: Path) -> np.ndarray:
    try:
        return np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadDataError(f"{file} is no array that can be read ({error}).") from error


def _table(file: Path) -> np.ndarray:
    """The numbers of a ``.csv`` file, below a line of names if it has one; whole numbers stay so."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            rows = [row for row in csv.reader(opened) if row]
        start = 0 if rows and _is_number(rows[0][0]) else 1
        table = np.array([[float(cell) for cell in row] for row in rows[start:]])
    except (OSError, ValueError, csv.Error) as error:
        raise BadDataError(f"{file} is no table of numbers ({error}).") from error
    if table.ndim != 2:
        raise BadDataError(f"{file} is no table of numbers: its rows have unequal lengths, or there are none.")
    table = table.astype(np.int64) if (table == np.floor(table)).all() else table
    return table[:, 0] if table.shape[1] == 1 else table


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
