"""Memory stays flat while data are imported, however large they are."""

import resource
import zipfile

import numpy as np
import pytest

from wmcomponents.data import folder
from wmcomponents.data.datasets import open_source, rows, write_recording

SIDE = 64


def images(path, steps):
    """An ``.npz`` of that many images, written without holding them."""
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("observations.npy", "w", force_zip64=True) as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (steps, SIDE, SIDE, 3)}
            np.lib.format.write_array_header_1_0(file, header)
            for step in range(steps):
                file.write(np.full((SIDE, SIDE, 3), step % 251, np.uint8).tobytes())
        ends = np.arange(steps) % 1000 == 999
        for name, array in {"actions": np.zeros((steps, 1)), "terminated": ends}.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, array)


def growth(path, out):
    """Bytes by which the most memory ever held has grown."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    steps = write_recording(open_source("arrays", path), out)
    assert folder.read_description(out)["steps"] == steps
    return 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


def test_three_times_the_data_take_no_more_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "PART_BYTES", 2**20)
    monkeypatch.setattr(rows, "PIECE_BYTES", 2**18)
    for name, steps in (("small", 1_000), ("large", 3_000)):
        images(tmp_path / name, steps)
    growth(tmp_path / "small", tmp_path / "first")  # what is taken once
    assert growth(tmp_path / "large", tmp_path / "second") < 12e6 < 2_000 * SIDE * SIDE * 3


@pytest.mark.slow
@pytest.mark.weekly
@pytest.mark.timeout(1800)
def test_a_gigabyte_takes_no_more_memory_than_a_part_of_it(tmp_path):
    for name, steps in (("small", 8_000), ("large", 90_000)):
        images(tmp_path / name, steps)
    growth(tmp_path / "small", tmp_path / "first")
    assert growth(tmp_path / "large", tmp_path / "second") < 64e6
