"""Saves over a folder are killed at random moments: what is loaded is one of the saves, whole.

A seeded part runs in the suite. More of it::

    WMC_KILLS=200 python -m pytest -q tests/fuzz/test_killed_while_saving.py
"""

import gc
import os
import random

import pytest

from tests.support.counting_replay import CAPACITY, buffer, last_number, walk
from tests.support.killing import signalled
from wmcomponents.data import load_replay, save_replay

KILLS = int(os.environ.get("WMC_KILLS", 12))

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.mark.parametrize("kind", ["memory", "memmap", "images"])
def test_a_kill_while_saving_leaves_one_save_whole(tmp_path, kind):
    folder, draw = tmp_path / "data", random.Random(kind)
    options = {"storage": "memmap", "directory": folder} if kind == "memmap" else {}

    def work():
        replay = buffer(kind == "images", **options)
        load_replay(replay, folder)
        number = last_number(replay) + 1
        while True:
            walk(replay, number, 7)
            number += 7
            save_replay(replay, folder)
            os.write(done, b".")
            walk(replay, number, 5)  # written on after it was saved
            number += 5

    first = buffer(kind == "images")
    walk(first, 0, 200)
    save_replay(first, folder)
    newest = 199
    for _ in range(max(1, KILLS // 3)):
        told, done = os.pipe()
        signalled(work, 0.02 + 0.1 * draw.random())
        os.close(done)
        saves = len(os.read(told, 2**16))
        os.close(told)
        found = load_replay(buffer(kind == "images"), folder)
        # The steps of the last save that ended, or of the one that was under way.
        told_newest = newest + 12 * saves - 5 if saves else newest
        assert last_number(found) in (told_newest, newest + 12 * (saves + 1) - 5)
        newest = last_number(found)
        assert len(found) == min(CAPACITY, newest + 1)
    save_replay(load_replay(buffer(kind == "images", **options), folder), folder)
    gc.collect()
    assert sorted(file.suffix for file in folder.iterdir()) == [".bin", ".json"]


def test_a_kill_leaves_a_folder_that_nobody_wrote_to_before_without_data_and_it_can_be_written_to(tmp_path):
    replay, draw = buffer(False), random.Random(0)
    walk(replay, 0, 200)
    for number in range(max(1, KILLS // 4)):
        folder = tmp_path / str(number)
        signalled(lambda folder=folder: save_replay(replay, folder), 0.01 * draw.random())
        save_replay(replay, folder)
        assert last_number(load_replay(buffer(False), folder)) == 199
        assert sorted(file.suffix for file in folder.iterdir()) == [".bin", ".json"]
