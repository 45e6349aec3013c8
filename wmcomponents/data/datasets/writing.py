"""Recordings into data folders and buffers: the one place where sources meet storage."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from wmcomponents._whole import check_place
from wmcomponents.data.datasets.recording import Recording
from wmcomponents.data.datasets.steps import steps_of
from wmcomponents.data.folder import PART_BYTES, DataWriter
from wmcomponents.data.layout import Layout
from wmcomponents.data.transitions import recorded_spec
from wmcomponents.pretrained import spec_to_json


def recording_bytes(recording: Recording) -> int:
    """Bytes of a data folder that the steps of a recording fill, about: a few more for the ends of episodes."""
    layout = Layout.of_spec(recorded_spec(recording.observation_spec, recording.action_spec), 1)
    return layout.file_bytes(recording.steps, min(recording.episodes or 1, recording.steps) if layout.images else 0)


def write_recording(
    recording: Recording, path: str | Path, *, progress: Callable[[int], Any] | None = None, **facts: Any
) -> int:
    """Write all steps of a recording into a data folder, as :func:`~wmcomponents.data.save_replay` does.

    A piece at a time is in memory. The folder holds nothing new until all is written.

    Args:
        recording: what to read.
        path: the folder.
        progress: called with the number of further steps that are written.
        **facts: more to keep with the steps, plain JSON.

    Returns:
        The number of steps.

    Raises:
        BadDataError: if what is read is not what the recording says; nothing is written then.
        FolderInUseError: if another process writes there.
        NoPlaceError: if there is no room.
    """
    check_place(path, space=recording_bytes(recording) + PART_BYTES)
    spec = recorded_spec(recording.observation_spec, recording.action_spec)
    count = episodes = 0
    with DataWriter(path) as folder:
        for steps in steps_of(recording):
            folder.append(steps)
            count += len(steps)
            episodes += int(steps["next", "done"].sum())
            if progress is not None:
                progress(len(steps))
        known = {**(recording.facts or {}), **facts}
        folder.save(
            transition_spec=spec_to_json(spec),
            env=recording.name,
            env_options={},
            episodes=episodes,
            notes=list(recording.notes),
            **known,
        )
    return count
