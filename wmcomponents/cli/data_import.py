"""`wmc data import`: data of others, and of one's own, into a data folder."""

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wmcomponents._interruption import postponed
from wmcomponents.cli.console import counting, quiet, say
from wmcomponents.cli.errors import UsageError, at_least, changed, meant


@dataclass(frozen=True)
class DataImportConfig:
    """Arguments of `wmc data import`."""

    source: str
    """How the data are laid out: a name of the list above, or one that a module of --import registers."""
    path: str
    """Where they lie: a file or a folder."""
    out: Path
    """Folder to write; it must not hold anything yet."""
    image_size: int | None = None
    """Side of all images, in pixels; their own size if not given."""
    options: tuple[str, ...] = ()
    """Options of the source, as name=value; a value is a Python literal, or else a string."""


def run(config: DataImportConfig) -> dict[str, Any]:
    """Describe what is there, and write it."""
    options = changed(config.options, "--options")
    if config.image_size is not None:
        at_least(1, image_size=config.image_size)
        options["image_size"] = config.image_size
    if config.out.exists() and not config.out.is_dir():
        raise UsageError(f"{config.out} exists already and is no folder: choose another place.")
    with postponed():  # an import that is broken off says something else than that it was
        from wmcomponents.data.datasets import (
            SOURCES,
            UnknownSourceError,
            open_source,
            recording_bytes,
            write_recording,
        )
        from wmcomponents.data.folder import DESCRIPTION, foreign_names
    if config.out.exists() and ((config.out / DESCRIPTION).exists() or foreign_names(config.out)):
        raise UsageError(f"{config.out} exists already and is not empty: choose another place, or remove it first.")
    quiet()
    begun = time.perf_counter()
    try:
        recording = open_source(config.source, config.path, **options)
    except UnknownSourceError as error:
        raise UsageError(f"{error}{'' if config.source in SOURCES else meant(config.source, SOURCES)}") from error
    episodes = "" if recording.episodes is None else f"{recording.episodes:,} episodes, "
    size = recording_bytes(recording)
    say(f"{recording.name}: {recording.steps:,} steps, {episodes}{size / 1e6:,.1f} MB in {config.out}")
    for note in recording.notes:
        say(note)
    origin = {"source": config.source, "origin": config.path, "options": options}
    try:
        with counting(recording.name, recording.steps) as advance:
            steps = write_recording(recording, config.out, progress=advance, **origin)
    except BaseException:
        with contextlib.suppress(OSError):  # a folder that was made for this
            config.out.rmdir()
        raise
    say(f"{steps:,} steps in {config.out}; wmc train --data {config.out} learns from them")
    seconds = round(time.perf_counter() - begun, 2)
    known = {"data": str(config.out), "source": config.source, "env": recording.name}
    return {**known, "steps": steps, "episodes": recording.episodes, "notes": list(recording.notes), "seconds": seconds}
