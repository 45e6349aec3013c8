"""Encoders on the command line: from a folder of images to a saved one, and what nobody can do with it."""

import json
import re

import pytest
import torch

pytest.importorskip("av")

from tests.support.films import film, frames, png
from tests.support.running import wmc
from wmcomponents.models.loading import load_encoder, load_pretraining

SIZES = ["network.encoder.depth=1", "network.encoder.dim=24", "network.encoder.hidden=32"]
OF = {
    "MAE": [*SIZES, "patch=4", "network.decoder.depth=1"],
    "IJEPA": [*SIZES, "patch=4", "network.predictor.depth=1", "least=1"],
    "VJEPA": [*SIZES, "patch=(2, 4, 4)", "network.predictor.depth=1", "frames=4", "blocks=(2,)", "scales=(0.3,)"],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for number, image in enumerate(frames(12)):
        (folder / f"{number:02}.png").write_bytes(png(image))
    ran = wmc("data", "import", "images", folder, folder.with_name("images-data"))
    assert ran.code == 0 and ran.result["steps"] == 12 and ran.result["episodes"] == 1, ran.err
    return folder.with_name("images-data")


def arguments(data, out, family, steps):
    sizes = ["--batch-size", 2, "--steps", steps, "--changes", *OF[family]]
    return ["train", "--data", data, "--out", out, "--family", family, *sizes]


@pytest.mark.parametrize("family", OF)
def test_an_encoder_is_pretrained_on_a_folder_of_images_and_goes_on(family, data, tmp_path):
    ran = wmc(*arguments(data, tmp_path, family, 1))
    assert ran.code == 0, ran.err
    again = wmc(*arguments(data, tmp_path, family, 3))
    assert again.code == 0 and again.result["resumed_at"] == 1 and again.result["steps"] == 3, again.err
    assert again.result["probes"]["embedding_rankme"] >= 1
    features = load_encoder(again.result["model"]).compute(torch.zeros(1, 16, 16, 3, dtype=torch.uint8))
    assert features.shape == (1, 16, 24)
    assert json.loads((tmp_path / "training.json").read_text())["family"] == family
    told = wmc("info", "--model", tmp_path / "model")
    assert told.code == 0 and told.result["family"] == family and told.result["features"] == 24, told.err
    assert told.result["trained"]["steps"] == 3


def test_films_pretrain_an_encoder_of_clips(tmp_path):
    film(tmp_path / "films.mp4", frames(9))
    options = ["--options", "actions=none"]
    assert wmc("data", "import", "video", tmp_path / "films.mp4", tmp_path / "data", *options).code == 0
    ran = wmc(*arguments(tmp_path / "data", tmp_path / "run", "VJEPA", 1))
    assert ran.code == 0 and load_pretraining(ran.result["model"]).frames == 4, ran.err


def test_nobody_dreams_in_an_encoder(data, tmp_path):
    assert wmc(*arguments(data, tmp_path, "MAE", 1)).code == 0
    ran = wmc("dream", "--model", tmp_path / "model", "--out", tmp_path / "dream.gif")
    assert ran.code == 1 and "has no time and no actions" in ran.err and ran.err.count("\n") == 1
    ran = wmc("demo", "--family", "MAE", "--out", tmp_path / "demo")
    assert ran.code == 2 and "becomes part of a world" in ran.err


@pytest.mark.parametrize(
    "family,given,said",
    [
        ("MAE", ["--members", 3], "--members goes with a world model"),
        ("MAE", ["--start-states", 3], "--start-states goes with a world model"),
        ("MAE", ["--sequence-length", 8], "MAE reads sequences of 1; got --sequence-length 8: leave it out."),
        (
            "VJEPA",
            ["--sequence-length", 8],
            "sequences of 4; got --sequence-length 8: .* change frames=... by --changes",
        ),
        ("IJEPA", ["--steps", 5000], "--steps 5000 outlasts the schedules .* add --changes optimizer.steps=5000"),
        ("MAE", ["--preset", "small"], "--preset of MAE is one of tiny, base, large, huge; got 'small'"),
        ("MAE", ["--changes", "ratio=half"], "ratio must be a number"),
    ],
)
def test_what_pretraining_does_not_read_is_refused(family, given, said, data, tmp_path):
    ran = wmc(*arguments(data, tmp_path / "run", family, 1), *given)
    assert ran.code == 2 and re.search(said, ran.err), ran.err
    assert not (tmp_path / "run").exists()
