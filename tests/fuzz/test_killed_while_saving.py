"""Saves over a folder are killed at random moments: what is loaded is one of the saves, whole.

A seeded part runs in the suite. More of it::

    WMC_KILLS=200 python -m pytest -q tests/fuzz/test_killed_while_saving.py
"""

import gc
import os
import random

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Binary, Bounded, Composite, Unbounded

from tests.fuzz.killing import signalled
from wmcomponents.data import load_replay, make_replay, save_replay

KILLS = int(os.environ.get("WMC_KILLS", 12))
CAPACITY = 300

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def flags(count: int) -> torch.Tensor:
    return torch.zeros(count, 1, dtype=torch.bool)


def buffer(images: bool, **options):
    flag = Binary(1, shape=(1,), dtype=torch.bool)
    shown = Bounded(0, 255, (3, 3, 3), dtype=torch.uint8) if images else Unbounded(50)
    following = Composite(
        x=shown.clone(), reward=Unbounded(1), terminated=flag.clone(), truncated=flag.clone(), done=flag.clone()
    )
    spec = Composite(x=shown, action=Bounded(-1, 1, (1,)), is_init=flag.clone(), next=following)
    return make_replay(CAPACITY, spec, sequence_length=8, batch_size=64, seed=0, print_fn=None, **options)


def walk(replay, first: int, count: int) -> None:
    """Steps that count: number k shows k, earns k, and leads to k + 1."""
    number = torch.arange(first, first + count)[:, None]
    shown = replay.transition_spec["entries"]["x"]

    def image(k):
        if shown["dtype"] == "uint8":
            return (k % 251).to(torch.uint8)[:, :, None, None].expand(-1, 3, 3, 3).clone()
        return k.float().expand(-1, 50).clone()

    following = {"x": image(number + 1), "reward": number.float(), "terminated": flags(count)}
    following |= {"truncated": flags(count), "done": flags(count)}
    steps = {"x": image(number), "action": number.float(), "is_init": flags(count), "next": following}
    replay.extend(TensorDict(steps, [count]))


def last_number(replay) -> int:
    """Check that every sequence counts on without a jump; the newest step."""
    for _ in range(3):
        batch = replay.sample()
        number = batch["action"][..., 0]
        assert (number[:, 1:] - number[:, :-1] == 1).all()
        assert batch["next", "reward"][..., 0].equal(number)
        kind = batch["x"].dtype
        turn = 251 if kind == torch.uint8 else 10**9
        assert (batch["x"].flatten(2) == (number % turn)[..., None]).all()
        assert (batch["next", "x"].flatten(2) == ((number + 1) % turn)[..., None]).all()
    return int(replay.storage[:]["action"].max())


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
