"""HDF5 files: robomimic's, D4RL's, and others whose arrays are named."""

import fnmatch
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from wmcomponents.data.datasets.arrays import NAMES, Marks, split
from wmcomponents.data.datasets.episodes import EpisodeRows, recording_of, succeeded
from wmcomponents.data.datasets.frames import sized
from wmcomponents.data.datasets.hdf5_rows import checked, child, children, flags, is_group, is_numbers, opened
from wmcomponents.data.datasets.kinds import bare_key
from wmcomponents.data.datasets.recording import Recording
from wmcomponents.data.datasets.rows import Chained, Rows
from wmcomponents.data.folder import BadDataError

AMBIGUOUS = ("dones", "done")
"""Flags that say that an episode ended, and not why."""


def hdf5(
    path: str | Path,
    *,
    episodes: str | None = None,
    observations: str | Sequence[str] | None = None,
    actions: str | None = None,
    rewards: str | None = None,
    terminated: str | None = None,
    truncated: str | None = None,
    image_size: int | None = None,
) -> Recording:
    """An HDF5 file, in one of two forms.

    *A group an episode*, as robomimic (``data/demo_0`` with ``obs``, ``next_obs``, ``actions``, ``rewards``, ``dones``)
    and many others keep them: ``episodes`` is the pattern of the groups, and the names of arrays are paths inside one.
    *One array over all episodes*, as D4RL keeps them (``observations``, ``actions``, ``rewards``, ``terminals``,
    ``timeouts``, ``next_observations``): flags say where episodes end. Which of the two is found out if ``episodes`` is
    not given. Next observations are compared with the observations one step later, and complete the last step.

    ``dones`` tell that an episode ended, and not why: it terminated if its last reward is positive. Name them as
    ``terminated`` to take them at their word.

    Args:
        path: the file.
        episodes: pattern of the episodes' groups, such as ``data/demo_*``.
        observations: names of the arrays that were observed, or of a group of them.
        actions: name of the actions.
        rewards: name of the rewards.
        terminated: name of the flags of steps that ended an episode by itself.
        truncated: name of the flags of steps after which it was cut; of episodes side by side only.
        image_size: side of all images; their own if not given.
    """
    path = Path(path)
    named = {"actions": actions, "rewards": rewards, "terminated": terminated, "truncated": truncated}
    with opened(path) as file:
        pattern = episodes if episodes is not None else _found(file, actions)

    def listed() -> Iterator[EpisodeRows]:
        with opened(path) as file:
            if pattern is None:
                yield from _flat(file, observations, named, image_size, str(path))
                return
            for name, group in _matching(file, pattern):
                yield _episode(group, observations, named, image_size, f"{path}: {name}")

    return recording_of(f"hdf5/{path.stem}", listed)


def _found(file: Any, actions: str | None) -> str | None:
    """Pattern of the groups that hold episodes; ``None`` if the file holds flat arrays."""
    for place, group in (("", file), ("data/", child(file, "data"))):
        if group is None or not is_group(group):
            continue
        inside = [each for _, each in children(group) if is_group(each)]
        if any(_named(each, "actions", actions) is not None for each in inside):
            return f"{place}*"
    return None


def _matching(file: Any, pattern: str) -> Iterator[tuple[str, Any]]:
    place, _, last = pattern.strip("/").rpartition("/")
    group = child(file, place) if place else file
    if group is None or not is_group(group):
        raise BadDataError(f"{file.filename} has no group {place!r}; it has {sorted(file)[:9]}.")
    found = [(name, each) for name, each in children(group) if is_group(each) and fnmatch.fnmatch(name, last)]
    if not found:
        raise BadDataError(f"{file.filename} has no group that is called {pattern!r}; there are {sorted(group)[:9]}.")
    yield from found


def _episode(
    group: Any, observations: str | Sequence[str] | None, named: Mapping[str, str | None], size: int | None, where: str
) -> EpisodeRows:
    seen = {key: sized(rows, size) for key, rows in _seen(group, observations, "observations", where).items()}
    took, earned = _named(group, "actions", named["actions"]), _named(group, "rewards", named["rewards"])
    if took is None:
        raise BadDataError(f"{where} has no actions, but {sorted(group)}: name them, --options actions=NAME.")
    count = took.shape[0]
    if all(rows.shape[0] == count for rows in seen.values()):
        following = _following(group, seen, size, where)
        seen = {key: Chained(rows, following[key], where) if key in following else rows for key, rows in seen.items()}
        if following and set(following) != set(seen):
            raise BadDataError(f"{where} has next observations of {sorted(following)} and not of {sorted(seen)}.")
    return EpisodeRows(seen, took, earned, _terminated(group, named["terminated"], earned, where), where)


def _terminated(group: Any, name: str | None, rewards: Rows | None, where: str) -> bool:
    for each in (name,) if name is not None else NAMES["terminated"]:
        found = child(group, each)
        if found is None:
            continue
        flag = flags(found)
        if len(flag) and flag[-1] and each in AMBIGUOUS and name is None:
            return succeeded(rewards)
        return bool(len(flag) and flag[-1])
    if name is not None:
        raise BadDataError(f"{where} has no {name!r} for terminated, but {sorted(group)}.")
    return False


def _flat(
    file: Any, observations: str | Sequence[str] | None, named: Mapping[str, str | None], size: int | None, where: str
) -> list[EpisodeRows]:
    seen = _seen(file, observations, "observations", where)
    found = {what: _named(file, what, named.get(what)) for what in NAMES if "observations" not in what}
    if found["actions"] is None:
        raise BadDataError(f"{where} has no actions, but {sorted(file)}: name them, --options actions=NAME.")
    after = _following(file, seen, None, where)
    return split(
        {key: sized(rows, size) for key, rows in seen.items()},
        found["actions"],
        found["rewards"],
        marks=Marks(*(None if found[what] is None else flags(found[what]) for what in Marks._fields)),
        following={key: sized(rows, size) for key, rows in after.items()} or None,
        where=where,
    )


def _following(group: Any, seen: Mapping[str, Rows], size: int | None, where: str) -> dict[str, Any]:
    """What was seen after each step, by the keys of what was seen before it."""
    name = next((name for name in NAMES["next_observations"] if child(group, name) is not None), None)
    if name is None:
        return {}
    after = child(group, name)
    if is_numbers(after):
        return {key: sized(checked(after), size) for key in seen} if len(seen) == 1 else {}
    found = {key: child(after, key) for key in seen}
    if len(seen) == 1 and len(list(after)) == 1:
        found = dict.fromkeys(seen, child(after, next(iter(after))))
    return {key: sized(checked(rows), size) for key, rows in found.items() if rows is not None}


def _seen(group: Any, names: str | Sequence[str] | None, what: str, where: str) -> dict[str, Any]:
    """The arrays that were observed, by key."""
    listed = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names or ())
    if not listed:
        listed = [next((name for name in NAMES[what] if child(group, name) is not None), "")]
        if not listed[0]:
            raise BadDataError(
                f"{where} has no observations, but {sorted(group)[:9]}: name them, --options observations=NAME,NAME."
            )
    found: dict[str, Any] = {}
    for name in listed:
        thing = child(group, name)
        if thing is None:
            thing = child(group, f"obs/{name}")  # robomimic's users name them as robomimic does
        if thing is None:
            raise BadDataError(f"{where} has no {name!r}, but {sorted(group)[:9]}.")
        if is_group(thing):
            found.update({key: checked(each) for key, each in children(thing) if is_numbers(each)})
        else:
            found[name.rpartition("/")[2]] = checked(thing)
    if not found:
        raise BadDataError(f"{where} has no array of numbers among its observations.")
    return {bare_key(next(iter(found.values()))): next(iter(found.values()))} if len(found) == 1 else found


def _named(group: Any, what: str, name: str | None) -> Any:
    known: Callable[[str], Any] = lambda each: child(group, each)  # noqa: E731
    found = next((known(each) for each in ((name,) if name else NAMES[what]) if known(each) is not None), None)
    if name and found is None:
        raise BadDataError(f"{group.file.filename}: {group.name} has no {name!r} for {what}, but {sorted(group)[:9]}.")
    return None if found is None or is_group(found) else checked(found)
