"""Minecraft's keys and mouse as numbers."""

import pytest
import torch

from tests.support.golden_vectors import load
from wmcomponents.codecs import MINECRAFT_KEYS, minecraft_action, minecraft_keys


def test_actions_are_told_as_oasis_tells_them():
    info, tensors = load("oasis_action_encoding")
    assert list(MINECRAFT_KEYS) == info["config"]["keys"]
    action = {"forward": 1, "jump": 1, "camera": tensors["in/camera"].tolist()}
    torch.testing.assert_close(minecraft_action(action), tensors["out/vector"][0], **info["tolerance"])
    assert minecraft_keys(minecraft_action(action)) == {"forward": 1, "jump": 1, "cameraX": 50, "cameraY": 30}


def test_nothing_held_is_nothing():
    assert not minecraft_action({}).any() and minecraft_keys(torch.zeros(25)) == {}
    assert minecraft_action({"cameraX": 0, "cameraY": 80})[15:17].tolist() == [-1.0, 1.0]


@pytest.mark.parametrize(
    "action, message",
    [
        ({"fly": 1}, "got fly"),
        ({"cameraX": 81}, "from 0 to 80; got 81"),
        ({"cameraY": float("nan")}, "from 0 to 80"),
        ({"jump": 0.5}, "held .1. or not"),
        ({"camera": (40,)}, "told once"),
        ({"camera": (40, 40), "cameraX": 40}, "told once"),
    ],
)
def test_actions_that_there_are_not_are_refused(action, message):
    with pytest.raises(ValueError, match=message):
        minecraft_action(action)


def test_numbers_of_another_encoding_are_refused():
    with pytest.raises(ValueError, match="25 numbers; got .24."):
        minecraft_keys(torch.zeros(24))
