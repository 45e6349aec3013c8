"""The folder of an online run: one whole bundle at every moment, whenever the run is killed."""

import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from wmcomponents._whole import write_whole
from wmcomponents.training import BadCheckpointError, Ranks

POINTER = "bundle.json"
"""Names the folder of the newest whole bundle."""

ALONE = Ranks()

NAME = re.compile(r"bundle-[0-9]+-[0-9]+-[0-9]+", re.ASCII)


def newest(out: Path) -> Path | None:
    """The folder of the newest whole bundle; ``None`` where none was written.

    Args:
        out: the run's folder.

    Raises:
        BadCheckpointError: if the file that names it is damaged, or names no bundle that is there.
    """
    pointer = out / POINTER
    try:
        if not pointer.is_file():
            if pointer.exists() or pointer.is_symlink():
                raise BadCheckpointError(f"{pointer} is not a file: it names no bundle. Move it away.")
            return None
        name = json.loads(pointer.read_text()[:1000])["bundle"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, BadCheckpointError):
            raise
        raise BadCheckpointError(
            f"{pointer} is damaged ({error}): it names the run's bundle. Choose another folder, or write "
            f'{{"bundle": "NAME"}} into it, with the name of a folder bundle-... beside it.'
        ) from error
    if not isinstance(name, str) or NAME.fullmatch(name) is None:
        raise BadCheckpointError(f"{pointer} names {str(name)[:80]!r}, which is no bundle: choose another folder.")
    folder = out / name
    if folder.is_symlink() or not folder.is_dir():
        raise BadCheckpointError(f"{pointer} names {name}, which is not there: choose another folder.")
    return folder


def write(out: Path, steps: int, updates: int, fill: Callable[[Path], None], ranks: Ranks = ALONE) -> Path:
    """Write a bundle beside the last one, then name it as the newest, then drop all others.

    Several processes write one bundle together, and the first one names it when all have written their part.

    Args:
        out: the run's folder.
        steps: real steps so far, for the name.
        updates: updates so far, for the name.
        fill: writes the files into the folder that it is given.
        ranks: the processes.

    Returns:
        The bundle's folder. After an error the last bundle is as it was, and the new one is gone.
    """
    folder = out / f"bundle-{steps}-{updates}-{ranks.of_first(time.time_ns())}"
    if ranks.is_first:
        folder.mkdir(parents=True)
    ranks.wait()
    try:
        fill(folder)
        ranks.wait()
        if ranks.is_first:
            write_whole(out / POINTER, json.dumps({"bundle": folder.name, "real_steps": steps}) + "\n")
    except BaseException:
        if ranks.is_first and newest(out) != folder:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    if ranks.is_first:
        sweep(out, folder)
    return folder


def part_of(folder: Path, rank: int) -> Path:
    """Where in a bundle a process keeps its own data, episodes and generators: the first one in the bundle itself.

    Args:
        folder: of the bundle.
        rank: of the process.
    """
    return folder / f"rank-{rank}" if rank else folder


def sweep(out: Path, kept: Path | None) -> None:
    """Drop bundles that a killed run left half written or not yet dropped.

    Args:
        out: the run's folder.
        kept: the newest bundle.
    """
    for other in out.glob("bundle-*"):
        if NAME.fullmatch(other.name) and not other.is_symlink() and (kept is None or other.name != kept.name):
            shutil.rmtree(other, ignore_errors=True)


def replace_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Write a folder aside and put it in the place of the one that stands there.

    Args:
        folder: the place; killed in between, it holds the old folder, or none. After an error it is as it was.
        fill: writes the files into the folder that it is given.
    """
    aside = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        fill(aside)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
