"""Arrays of one's own: in memory, in ``.npz`` files, or in a folder of such files."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wmcomponents.data.datasets.episodes import EpisodeRows, recording_of
from wmcomponents.data.datasets.kinds import bare_key
from wmcomponents.data.datasets.npz import NpzFile
from wmcomponents.data.datasets.recording import Recording
from wmcomponents.data.datasets.rows import Chained, Rows, Window
from wmcomponents.data.folder import BadDataError

NAMES: dict[str, tuple[str, ...]] = {
    "observations": ("observations", "observation", "obs", "images", "image", "pixels", "frames", "states", "state"),
    "next_observations": ("next_observations", "next_observation", "next_obs"),
    "actions": ("actions", "action"),
    "rewards": ("rewards", "reward"),
    "terminated": ("terminated", "terminations", "terminals", "is_terminal", "dones", "done"),
    "truncated": ("truncated", "truncations", "timeouts"),
    "starts": ("is_init", "is_first", "episode_starts"),
}
"""How arrays of steps are called, by what they are; the first that is there counts."""


class Marks(NamedTuple):
    """Flags of steps, ``[N]`` each, or ``None`` where there are none.

    Attributes:
        terminated: an episode ended by itself.
        truncated: it was cut.
        starts: one begins.
    """

    terminated: np.ndarray | None = None
    truncated: np.ndarray | None = None
    starts: np.ndarray | None = None


def arrays(
    path: str | Path,
    *,
    observations: str | Sequence[str] | None = None,
    actions: str | None = None,
    rewards: str | None = None,
    terminated: str | None = None,
    truncated: str | None = None,
) -> Recording:
    """An ``.npz`` file of steps, or a folder of ``.npz`` files.

    Args:
        path: the file, or the folder.
        observations: names of the arrays that were observed; the usual names if not given.
        actions: name of the array of actions.
        rewards: name of the array of rewards.
        terminated: name of the flags of steps that ended an episode by itself.
        truncated: name of the flags of steps after which it was cut.
    """
    path = Path(path)
    files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
    if not files:
        raise BadDataError(f"{path} holds no .npz file.")
    named = {"actions": actions, "rewards": rewards, "terminated": terminated, "truncated": truncated}

    def episodes() -> Iterator[EpisodeRows]:
        for file in files:
            with NpzFile(file) as held:
                yield from _episodes_of(held, observations, named, str(file), is_open=path.is_dir())

    return recording_of(f"arrays/{path.stem}", episodes)


def _episodes_of(
    held: Mapping[str, Rows],
    observations: str | Sequence[str] | None,
    named: Mapping[str, str | None],
    where: str,
    is_open: bool,
) -> Iterator[EpisodeRows]:
    found = {what: _named(held, what, named.get(what), where) for what in NAMES if what != "observations"}
    seen = chosen(held, observations, where)
    if found["actions"] is None:
        raise BadDataError(f"{where} holds {sorted(held)}, and no actions: name the array, --options actions=NAME.")
    following = None if found["next_observations"] is None else {next(iter(seen)): found["next_observations"]}
    if following is not None and len(seen) > 1:
        raise BadDataError(f"{where} holds several observations and one next: leave the next one out.")
    marks = Marks(*(None if (rows := found[what]) is None else whole(rows) for what in Marks._fields))
    yield from split(
        seen, found["actions"], found["rewards"], marks=marks, following=following, where=where, is_open=is_open
    )


def chosen(held: Mapping[str, Rows], names: str | Sequence[str] | None, where: str) -> dict[str, Rows]:
    """The arrays that were observed, by the keys that they get.

    Args:
        held: all arrays.
        names: of those that were observed; the usual ones if not given.
        where: what holds them, in an error.

    Raises:
        BadDataError: if one of the names is not there.
    """
    if names is None:
        found = next((name for name in NAMES["observations"] if name in held), None)
        if found is None:
            raise BadDataError(
                f"{where} holds {sorted(held)}, and no observations: name them, --options observations=NAME."
            )
        return {bare_key(held[found]): held[found]}
    listed = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    missing = [name for name in listed if name not in held]
    if missing or not listed:
        raise BadDataError(f"{where} holds no {', '.join(missing) or 'observations'}, but {sorted(held)}.")
    if len(listed) == 1:
        return {bare_key(held[listed[0]]): held[listed[0]]}
    return {name.replace("/", "_"): held[name] for name in listed}


def _named(held: Mapping[str, Rows], what: str, name: str | None, where: str) -> Rows | None:
    if name is not None and name not in held:
        raise BadDataError(f"{where} holds no {name!r} for {what}, but {sorted(held)}.")
    known = (name,) if name is not None else NAMES[what]
    return next((held[each] for each in known if each in held), None)


def whole(rows: Rows) -> np.ndarray:
    """All of some rows of flags, flat."""
    if int(np.prod(rows.shape)) > MOST_FLAGS:
        raise BadDataError(f"flags of shape {list(rows.shape)} are no flags.")
    return np.asarray(rows[0 : rows.shape[0]]).reshape(-1)


MOST_FLAGS = 2**30


def split(
    observations: Mapping[str, Rows],
    actions: Rows,
    rewards: Rows | None,
    *,
    marks: Marks,
    following: Mapping[str, Rows] | None = None,
    where: str,
    is_open: bool = False,
) -> list[EpisodeRows]:
    """Steps of many episodes, one behind the other, as episodes.

    Args:
        observations: by key, ``[N, ...]``, or with one more row for the end of each episode.
        actions: ``[N, ...]``.
        rewards: ``[N]`` or ``[N, 1]``, or ``None``.
        marks: where episodes end.
        following: by key, ``[N, ...]``, what was seen after each step.
        where: what the steps are called in an error.
        is_open: steps without any mark of an end are one episode that was cut, else they are refused.

    Raises:
        BadDataError: if the lengths do not belong together, or nothing says where episodes end.
    """
    count = actions.shape[0] if actions.shape else 0
    ends, died = _ends(count, marks, where, is_open)
    seen = {key: rows.shape[0] for key, rows in observations.items()}
    whole_rows = set(seen.values()) == {count + len(ends)}
    if set(seen.values()) != {count} and not whole_rows:
        raise BadDataError(
            f"{where} has {count} actions in {len(ends)} episodes, and observations {seen}: expected {count} (one "
            f"before each action; next_observations beside them, or the last of each episode is missing), or "
            f"{count + len(ends)} (one more at the end of each episode)."
        )
    if rewards is not None and rewards.shape not in ((count,), (count, 1)):
        raise BadDataError(
            f"{where} has rewards of shape {list(rewards.shape)} and {count} actions: expected one number for each "
            f"action, [{count}] or [{count}, 1], that which followed it."
        )
    found, start = [], 0
    for number, (stop, terminates) in enumerate(zip(ends, died, strict=True)):
        first, last = (start + number, stop + number + 1) if whole_rows else (start, stop)
        name = f"{where}, episode {number},"
        shown: dict[str, Rows] = {key: Window(rows, first, last) for key, rows in observations.items()}
        if following is not None and not whole_rows:
            shown = {key: Chained(rows, Window(following[key], start, stop), name) for key, rows in shown.items()}
        earned = None if rewards is None else Window(rewards, start, stop)
        found.append(EpisodeRows(shown, Window(actions, start, stop), earned, terminates, name))
        start = stop
    return found


def _ends(count: int, marks: Marks, where: str, is_open: bool) -> tuple[list[int], list[bool]]:
    """Behind which steps episodes end, and which of them terminate; what is open at the end is cut there."""
    for name, flag in marks._asdict().items():
        if flag is None:
            continue
        if flag.shape != (count,):
            raise BadDataError(
                f"{where} has {name} of shape {list(flag.shape)} and {count} actions: expected [{count}]."
            )
        if not np.isin(flag, (0, 1)).all():
            raise BadDataError(f"{where} has {name} with values other than 0 and 1: a flag for each step is expected.")
    terminated, truncated, starts = marks
    if count < 1:
        raise BadDataError(f"{where} has no actions.")
    died = np.zeros(count, bool) if terminated is None else terminated.astype(bool)
    ends = died | (False if truncated is None else truncated.astype(bool))
    if starts is not None:
        begun = starts.astype(bool)
        if not begun[0]:
            raise BadDataError(f"{where} does not mark its first step as the start of an episode: starts[0] is false.")
        if (ends[:-1] & ~begun[1:]).any():
            step = int(np.argmax(ends[:-1] & ~begun[1:]))
            raise BadDataError(f"{where} ends an episode at step {step}, and step {step + 1} is not marked as a start.")
        ends[:-1] |= begun[1:]
    if not ends.any() and not is_open:
        raise BadDataError(
            f"{where} marks no end: its {count} steps would be one episode. Mark where episodes end (terminated, "
            f"truncated), or where they begin; if it is one episode indeed, set truncated at its last step."
        )
    ends[-1] = True
    stops = np.nonzero(ends)[0]
    return (stops + 1).tolist(), died[stops].tolist()
