import json

import numpy as np
import pytest

pytest.importorskip("av")

from tests.support.films import frames, png
from tests.support.recorded import Known, check, cut_short, read
from wmcomponents.data import BadDataError
from wmcomponents.data.datasets import open_source


def drive(folder, images, controls, *, several=False):
    (folder / "rgb").mkdir(parents=True)
    for number, image in enumerate(images):
        (folder / "rgb" / f"{number:06d}.png").write_bytes(png(image))
    said = [
        {
            "speed": 3.5 * n,
            "score": n,
            "control": dict(zip(("steer", "throttle", "brake"), map(float, row), strict=True)),
        }
        for n, row in enumerate(controls)
    ]
    if several:
        (folder / "measurements").mkdir()
        for number, each in enumerate(said):
            (folder / "measurements" / f"{number}.json").write_text(json.dumps(each))
    else:
        (folder / "measurements.jsonl").write_text("".join(json.dumps(each) + "\n" for each in said))


@pytest.mark.parametrize("several", [False, True])
def test_the_control_of_a_tick_led_to_the_next_image(tmp_path, several):
    known = []
    for number, count in enumerate((12, 3)):
        images = frames(count + 1, seed=number)
        controls = np.random.default_rng(number).uniform(0, 1, (count, 3)).astype(np.float32)
        drive(tmp_path / f"town{number}", images[:-1], controls, several=several)
        known.append(cut_short(Known({"pixels": images}, controls, np.zeros(count, np.float32), False)))
    recording = open_source("carla", tmp_path)
    check(recording, known)
    assert recording.action_spec.space.low.tolist() == [-1, 0, 0]


def test_measurements_are_observed_and_rewards_named(tmp_path):
    drive(tmp_path / "a", frames(4), np.zeros((4, 3)))
    steps = read(open_source("carla", tmp_path, measured="speed", rewards="score", actions="control.steer"))
    assert steps["measured"].flatten().tolist() == [0, 3.5, 7] and steps["next", "measured"][-1].item() == 10.5
    assert steps["next", "reward"].flatten().tolist() == [0, 1, 2] and steps["action"].shape == (3, 1)


def test_what_is_missing_is_named(tmp_path):
    drive(tmp_path / "a", frames(4), np.zeros((3, 3)))
    with pytest.raises(BadDataError, match="4 images and 3 measurements"):
        open_source("carla", tmp_path)
    with pytest.raises(BadDataError, match="no folder 'front'"):
        open_source("carla", tmp_path, camera="front")
    (tmp_path / "a" / "measurements.jsonl").write_text("{}\n" * 4)
    with pytest.raises(BadDataError, match="without a number 'steer'"):
        open_source("carla", tmp_path)
