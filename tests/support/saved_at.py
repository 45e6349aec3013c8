"""Whether models that an earlier version writes load today and dream the same bits, on this machine.

    python -m tests.support.saved_at [REVISION] [--keep FOLDER]

writes the bundles of :mod:`tests.support.bundles` with the code of a revision, or of a checkout given by its path, in a
process of its own; loads each with the code at hand; and compares what it sees and dreams bit for bit. Exit code 1
tells of a difference. With ``--keep`` the bundles stay in that folder: so those of ``tests/saved`` were written.
"""

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file

from tests.support import bundles
from wmcomponents.models.loading import load_starts, load_with_starts

GIVEN = ("is_init", "led", "action", "observation.", "filter_noise.", "noise.")
"""What a record gives to a model; the rest it tells."""


def state_names(folder: Path) -> dict[str, str]:
    """What the entries of a bundle's states are called today: as loading renames those of its starts."""
    written, read = load_file(folder / "model/starts.safetensors"), load_starts(folder / "model") or {}
    fresh = [key for key in read if key not in written]
    return {
        key: key if key in read else next(new for new in fresh if torch.equal(read[new], value))
        for key, value in written.items()
    }


def recorded(folder: Path) -> bundles.Record:
    """The record of a bundle, its states under the names of today."""
    names, record = state_names(folder), load_file(folder / "dream.safetensors")
    for kind in ("seen", "dreamt"):
        for key in bundles.part(record, kind).keys() & names.keys():
            record[f"{kind}.{names[key]}"] = record.pop(f"{kind}.{key}")
    return record


def replayed(folder: Path, record: bundles.Record, *, is_free: bool) -> bundles.Record:
    """What a bundle's model sees and dreams today.

    Args:
        folder: of the bundle.
        record: its record.
        is_free: whether each step begins where the one before ended, instead of where the record's did.
    """
    model, starts = load_with_starts(folder / "model")
    assert starts is not None
    before = {kind: bundles.part(record, kind) for kind in ("seen", "dreamt")}
    return bundles.replay(model, record, None if is_free else before)


def differences(folder: Path) -> list[str]:
    """In words, what of a bundle's record is not what its model sees and dreams today, to the bit."""
    try:
        record = recorded(folder)
        today = replayed(folder, record, is_free=True)
    except Exception as error:  # whatever a change broke: the other bundles are still compared
        return [f"fails with {type(error).__name__}: {error}"]
    told = {key: value for key, value in record.items() if not key.startswith(GIVEN)}
    found = [f"{key} is {'new' if key in today else 'gone'}" for key in sorted(told.keys() ^ today.keys())]
    for key in sorted(told.keys() & today.keys()):
        was, now = told[key], today[key]
        if was.dtype != now.dtype or was.shape != now.shape:
            found.append(f"{key} was {was.dtype} {list(was.shape)}, is {now.dtype} {list(now.shape)}")
        elif not torch.equal(was, now):
            found.append(f"{key} differs by up to {float((was.double() - now.double()).abs().max()):.2g}")
    return found


def write(revision: str, out: Path) -> None:
    """Write all bundles with the code of a revision, or of the checkout at a path."""
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(revision).resolve()
        if not tree.is_dir():
            tree = Path(scratch)
            root = Path(__file__).resolve().parents[2]
            with subprocess.Popen(["git", "archive", revision], cwd=root, stdout=subprocess.PIPE) as archive:
                with tarfile.open(fileobj=archive.stdout, mode="r|") as files:
                    files.extractall(tree, filter="data")
        environment = {**os.environ, "PYTHONPATH": str(tree)}
        command = [sys.executable, bundles.__file__, str(out.resolve())]
        subprocess.run(command, cwd=scratch, env=environment, check=True)


def main(arguments: list[str]) -> int:
    """Write, compare and tell."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.saved_at", description=__doc__)
    parser.add_argument("revision", nargs="?", default="e92d95a")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where the bundles are written, and stay")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message=".*the defaults are taken")
    with tempfile.TemporaryDirectory() as scratch:
        out = options.keep or Path(scratch)
        write(options.revision, out)
        found = {name: differences(out / name) for name in bundles.CATALOGUE}
    for name, lines in found.items():
        print(f"{name}: {'; '.join(lines) or 'the same bits'}")
    return int(any(found.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
