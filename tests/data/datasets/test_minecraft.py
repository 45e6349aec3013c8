import json

import numpy as np
import pytest

pytest.importorskip("av")

from tests.support.films import film
from tests.support.recorded import read
from wmcomponents.data import BadDataError
from wmcomponents.data.datasets import open_source
from wmcomponents.data.datasets.minecraft import NAMES


def line(keys=(), buttons=(), new=(), dx=0.0, dy=0.0, hotbar=0):
    mouse = {"x": 1.0, "y": 2.0, "dx": dx, "dy": dy, "buttons": list(buttons), "newButtons": list(new)}
    held = [f"key.keyboard.{key}" for key in keys]
    return {"mouse": mouse, "keyboard": {"keys": held, "chars": ""}, "hotbar": hotbar, "isGuiOpen": False, "tick": 0}


def record(folder, lines, frames):
    film(folder / "a.mp4", np.zeros((frames, 16, 16, 3), np.uint8) + np.uint8(40), codec="libx264")
    (folder / "a.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))


def held(action):
    return {name for name, value in zip(NAMES[:-2], action.tolist(), strict=False) if value}


def test_keys_buttons_and_the_mouse_become_actions_of_the_frame_they_were_held_at(tmp_path):
    lines = [line(["w", "left.shift"], dx=100, dy=-20), line(["space", "f3"], [1], [1]), line(hotbar=3), line(dx=-1e4)]
    record(tmp_path, lines, 5)
    recording = open_source("minecraft", tmp_path)
    actions = read(recording)["action"]
    assert recording.steps == 3 == len(actions) and recording.facts["action_names"] == list(NAMES)
    assert [held(action) for action in actions] == [{"forward", "sneak"}, {"jump", "use"}, {"hotbar.4"}]
    assert actions[0, -2:].tolist() == [-3.0, 10.0]  # 15 degrees for 100 pixels, clipped
    wide = read(open_source("minecraft", tmp_path, camera=180.0))["action"]
    assert wide[0, -2:].tolist() == [-3.0, 15.0] and len(NAMES) == 25


def test_an_attack_that_is_stuck_from_the_start_is_left_out_until_it_is_pressed_anew(tmp_path):
    lines = [line(buttons=[0], new=[0]), line(buttons=[0]), line(buttons=[0], new=[0]), line(buttons=[0]), line()]
    record(tmp_path, lines, 5)
    assert [held(action) for action in read(open_source("minecraft", tmp_path))["action"]] == [
        set(), set(), {"attack"}, {"attack"},
    ]  # fmt: skip


def test_what_does_not_belong_together_is_named(tmp_path):
    with pytest.raises(BadDataError, match=r"no film with a \.jsonl"):
        open_source("minecraft", tmp_path)
    record(tmp_path, [line()] * 9, 5)
    with pytest.raises(BadDataError, match=r"5 frames, and its \.jsonl 9 lines"):
        open_source("minecraft", tmp_path)
    (tmp_path / "a.jsonl").write_text(json.dumps(line()) + "\n" + '{"mouse": 3}\n')
    with pytest.raises(BadDataError, match="line 2, is none of a recording"):
        open_source("minecraft", tmp_path)
