"""DINO-WM's folders: states and actions of all episodes as tensors, and the frames of each beside them."""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wmcomponents.data.datasets.episodes import EpisodeRows, recording_of
from wmcomponents.data.datasets.frames import FilmRows, is_images, sized
from wmcomponents.data.datasets.recording import Recording
from wmcomponents.data.datasets.rows import Rows, Window
from wmcomponents.data.folder import BadDataError

PUSHER = 2
"""Numbers of PushT's state that are the pusher's own: where it is."""

SCALES = {"actions": 1.0, "rel_actions": 100.0, "abs_actions": 100.0}
"""Files of actions, in the order in which they are looked for, and what DINO-WM's code divides their numbers by."""


def dino_wm(
    path: str | Path,
    *,
    actions: str | None = None,
    action_scale: float | None = None,
    state: bool = False,
    image_size: int | None = None,
) -> Recording:
    """A folder with ``states.pth``, actions, lengths, and ``obses/episode_000.mp4`` (or ``.pth``) for each episode.

    States ``[N, T, S]`` and actions ``[N, T, A]`` are padded to the longest episode; ``seq_lengths.pth`` or ``.pkl``
    says how long each is (all of it, where there is none). Frames are shown as ``pixels``; beside them stands
    ``proprioception``, what DINO-WM takes for it: of PushT, which has ``velocities.pth``, the pusher's place and
    velocity, and elsewhere the whole state. The action of a frame led to the next one.

    Args:
        path: the folder, one split of it where there are several (``train``).
        actions: the file of the actions without its ending: ``actions``, ``rel_actions`` or ``abs_actions``, the first
            that there is if not given.
        action_scale: what the actions are divided by: as in DINO-WM's code if not given, 100 for the last two.
        state: show the whole ``state`` too, with the velocities behind it, such as for starts and goals of an
            evaluation.
        image_size: side of the frames, which are squeezed into a square; their own size if not given.

    Reference: Zhou et al., DINO-WM (2025), and its code.
    """
    path = Path(path)
    if not (path / "states.pth").is_file():
        splits = sorted(one.parent.name for one in path.glob("*/states.pth"))
        remedy = f"Name one of its splits, {' or '.join(str(path / one) for one in splits)}." if splits else ""
        raise BadDataError(f"{path} holds no states.pth, as DINO-WM's folders do. {remedy}".rstrip())
    states = _tensor(path / "states.pth", 3)
    file = _actions_file(path, actions)
    scale = SCALES.get(file.stem, 1.0) if action_scale is None else float(action_scale)
    if not scale > 0:
        raise BadDataError(f"action_scale is positive; got {action_scale}, for {file}.")
    taken = _tensor(file, 3).float() / scale
    moving = _tensor(path / "velocities.pth", 3) if (path / "velocities.pth").is_file() else None
    for name, tensor in ((file.name, taken), ("velocities.pth", moving)):
        if tensor is not None and tensor.shape[:2] != states.shape[:2]:
            raise BadDataError(
                f"{path}: {name} is {list(tensor.shape)} and states.pth {list(states.shape)}: expected as many "
                f"episodes and steps in both."
            )
    felt = states if moving is None else torch.cat([states[..., :PUSHER], moving], -1)
    whole = states if moving is None else torch.cat([states, moving], -1)
    lengths = _lengths(path, len(states), states.shape[1])

    def episodes() -> Iterator[EpisodeRows]:
        for number, length in enumerate(lengths):
            frames = _frames(path / "obses", number, length, image_size)
            seen: dict[str, Rows] = {"pixels": frames, "proprioception": _rows(felt[number, :length])}
            seen.update({"state": _rows(whole[number, :length])} if state else {})
            yield EpisodeRows(seen, _rows(taken[number, :length]), None, False, f"{path}, episode {number}")

    notes = () if scale == 1.0 else (f"The actions of {file.name} are divided by {scale:g}.",)
    return recording_of(f"dino_wm/{path.name}", episodes, notes=notes)


def _actions_file(path: Path, actions: str | None) -> Path:
    """Where the actions lie."""
    names = [*SCALES] if actions is None else [actions.removesuffix(".pth")]
    found = next((path / f"{name}.pth" for name in names if (path / f"{name}.pth").is_file()), None)
    if found is None:
        there = sorted(file.name for file in path.glob("*.pth"))
        raise BadDataError(
            f"{path} holds no {' or '.join(f'{name}.pth' for name in names)}, but {there}: name the file of the "
            f"actions, --options actions=NAME."
        )
    return found


def _tensor(file: Path, axes: int) -> Tensor:
    """The one tensor of a file, never unpickled as code.

    Raises:
        BadDataError: if there is none of so many axes, all of it in the file and of numbers.
    """
    try:
        held = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes of the reader
        said = " ".join(str(error).split())[:200]
        raise BadDataError(f"{file} holds no tensor that can be read ({type(error).__name__}: {said}).") from error
    if isinstance(held, list) and held and all(isinstance(one, Tensor) for one in held):
        held = torch.stack(held)
    if not isinstance(held, Tensor) or held.ndim != axes or not held.numel() or held.dtype.is_complex:
        came = f"a tensor {list(held.shape)}" if isinstance(held, Tensor) else f"a {type(held).__name__}"
        raise BadDataError(f"{file} holds {came}; expected a tensor of numbers with {axes} axes.")
    if held.layout != torch.strided or held.numel() * held.element_size() > held.untyped_storage().nbytes():
        raise BadDataError(f"{file} says that it holds {list(held.shape)}, and is smaller: it is damaged or cut off.")
    return held


def _lengths(path: Path, episodes: int, longest: int) -> list[int]:
    """Frames of each episode."""
    tensor, listed = path / "seq_lengths.pth", path / "seq_lengths.pkl"
    if tensor.is_file():
        found: Any = torch.load(tensor, map_location="cpu", weights_only=True)
    elif listed.is_file():
        with listed.open("rb") as file:
            found = _Plain(file).load()
    else:
        return [longest] * episodes
    name = tensor.name if tensor.is_file() else listed.name
    numbers: Any = found.tolist() if isinstance(found, Tensor) and found.ndim == 1 else found
    is_numbers = isinstance(numbers, (list, tuple)) and all(
        isinstance(one, int) and not isinstance(one, bool) for one in numbers
    )
    if not is_numbers or len(numbers) != episodes or not all(0 < one <= longest for one in numbers):
        raise BadDataError(
            f"{path / name}: expected {episodes} lengths between 1 and {longest}, whole numbers, as states.pth says; "
            f"got {str(numbers)[:80]}."
        )
    return list(numbers)


class _Plain(pickle.Unpickler):
    """Reads lists and numbers; whatever would run code is refused."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        raise BadDataError(
            f"seq_lengths.pkl holds {module_name}.{global_name}, which is not loaded as it may run code: save the "
            f"lengths as a list of numbers, or with torch.save as seq_lengths.pth."
        )


def _frames(folder: Path, number: int, length: int, image_size: int | None) -> Rows:
    """The frames of an episode, ``[length, H, W, 3]`` of bytes."""
    film, tensor = (folder / f"episode_{number:03d}{ending}" for ending in (".mp4", ".pth"))
    if film.is_file():
        rows: Rows = FilmRows(film, size=image_size)
    elif tensor.is_file():
        rows = sized(_rows(_tensor(tensor, 4)), image_size)
        if not is_images(rows):
            raise BadDataError(
                f"{tensor} holds {rows.dtype} {list(rows.shape)}; expected frames of bytes [T, H, W, 3]."
            )
    else:
        raise BadDataError(f"{folder} holds no {film.name} and no {tensor.name}, the frames of episode {number}.")
    if rows.shape[0] < length:
        raise BadDataError(
            f"{folder}, episode {number} has {rows.shape[0]} frames, and seq_lengths says {length}: it is cut off, or "
            f"belongs to another episode."
        )
    return Window(rows, 0, length)


def _rows(tensor: Tensor) -> np.ndarray:
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
