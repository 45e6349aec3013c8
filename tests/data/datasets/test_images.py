"""A folder of image files as data: what an encoder is pretrained on."""

import numpy as np
import pytest

pytest.importorskip("av")

from tests.support.films import frames, png
from wmcomponents.data import BadDataError
from wmcomponents.data.datasets import open_source


def folder_of(path, images):
    for number, image in enumerate(images):
        path.mkdir(parents=True, exist_ok=True)
        (path / f"{number:03}.png").write_bytes(png(image))
    return path


def test_every_image_of_every_folder_is_seen_once_and_in_its_order(tmp_path):
    folder_of(tmp_path / "many" / "b", frames(3, seed=1))
    folder_of(tmp_path / "many" / "b" / "deeper", frames(2, seed=2))
    folder_of(tmp_path / "many" / "c", frames(1, seed=3))
    recording = open_source("images", tmp_path / "many")
    assert (recording.steps, recording.episodes) == (6, 3) and recording.action_spec.shape == (1,)
    pieces = list(recording.pieces())
    seen = [piece.observations["pixels"][: len(piece.actions)] for piece in pieces]
    assert (np.concatenate(seen) == np.concatenate([frames(3, seed=1), frames(2, seed=2), frames(1, seed=3)])).all()
    assert any("no actions" in note for note in recording.notes)


def test_images_of_several_sizes_need_one_and_a_folder_without_any_is_refused(tmp_path):
    folder_of(tmp_path / "many", [frames(1)[0], frames(1, size=(20, 24))[0]])
    with pytest.raises(BadDataError, match=r"001.png is \(20, 24\) in size, others \(16, 16\): give --image-size"):
        list(open_source("images", tmp_path / "many").pieces())
    pieces = list(open_source("images", tmp_path / "many", image_size=8).pieces())
    assert pieces[0].observations["pixels"].shape == (3, 8, 8, 3)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadDataError, match=r"holds no image \(.png"):
        open_source("images", tmp_path / "empty")
