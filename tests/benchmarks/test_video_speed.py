"""The speed of worlds of video is measured; nothing is timed here."""

import pytest

from benchmarks import video_speed
from benchmarks.measuring import Setup

QUICK = Setup(repeats=1, threads=1, cpu_time=True, compiled=False, floor=False)
CAUSAL = [world for world in video_speed.WORLDS if world.remembers]


@pytest.mark.parametrize("world", CAUSAL, ids=lambda world: world.family)
def test_without_memory_the_frame_is_the_same(world):
    model = video_speed.build(world)
    call = video_speed.framed(model, 2, "cpu")
    remembered = call()
    with video_speed.anew(model):
        forgotten = call()
    difference = (remembered.int() - forgotten.int()).abs()
    assert difference.max() <= 1 and (difference > 0).float().mean() < 0.02  # bytes, rounded


def test_each_world_has_its_row_and_the_page_shows_it():
    worlds = [CAUSAL[0], video_speed.WORLDS[-1]]
    rows = video_speed.measure(QUICK, worlds, (1,))
    assert [one["variant"] for one in rows] == [video_speed.REMEMBERED, video_speed.ANEW, video_speed.REMEMBERED]
    assert rows[0]["gap"] > 0 and rows[0]["ratio"] > 0 and "ratio" not in rows[2]
    text = video_speed.page({"rows": rows, "command": "it", **QUICK.describe()})
    assert "DIAMOND, B=1" in text and video_speed.ANEW in text
