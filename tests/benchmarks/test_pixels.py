"""The fits of worlds of tokens and pixels run, go on where they were stopped, and are drawn."""

import json
from dataclasses import replace

import pytest

from benchmarks import fitting, pixels
from benchmarks.pixels import FITS, PixelFit

pytest.importorskip("minatar")
pytest.importorskip("PIL")

GAME = "MinAtar/Breakout-v1"


@pytest.fixture
def small(monkeypatch):
    """Little data, short films."""
    for name, value in {"REAL_STEPS": 200, "HELD_OUT_STEPS": 200, "HELD_OUT_SEQUENCES": 64, "CHUNK": 2}.items():
        monkeypatch.setattr(pixels, name, value)
    monkeypatch.setitem(pixels.WORLDS, GAME, replace(pixels.WORLDS[GAME], film_steps=6))


@pytest.mark.parametrize("family", list(pixels.FAMILIES))
def test_a_fit_is_measured_kept_and_drawn(family, small, tmp_path):
    how = replace(FITS[family, GAME], updates=4, sequence_length=8, batch_size=2)
    found = pixels.fit(family, GAME, 0, tmp_path / "runs", how)
    assert found["updates_taken"] == 4 and found["cpu_seconds"] > 0
    again = pixels.fit(family, GAME, 0, tmp_path / "runs", how)
    assert json.dumps(found) == json.dumps(again)  # kept
    assert [len(found["psnr"][who]) for who in ("model", "copy", "mean")] == [3, 3, 3]
    pixels.report(tmp_path / "runs", tmp_path / "out")
    page = (tmp_path / "out" / "pixels.md").read_text()
    assert f"| {pixels.FAMILIES[family]} | 0 |" in page and "| *copy* | 0 |" in page
    (film,) = (tmp_path / "out" / "media").glob("*.webp")
    assert film.name in page and film.stat().st_size < pixels.FILM_BYTES
    assert f"--families {family} --envs {GAME} --seeds 0 --updates 4" in page
    kept = json.loads((tmp_path / "out" / "pixels.json").read_text())["fits"]
    assert [one["psnr"] for one in kept] == [found["psnr"]]


def test_a_stopped_fit_goes_on_and_its_times_add_up(small, tmp_path):
    how = replace(FITS["Diamond", GAME], updates=4, sequence_length=8, batch_size=2)
    pixels.train("Diamond", GAME, 0, tmp_path, how, minutes=0.0)
    home = tmp_path / pixels.run_name("Diamond", GAME, 0)
    assert json.loads((home / "fit.json").read_text())["updates_taken"] == 0
    clock = home / "clock.json"
    pixels.train("Diamond", GAME, 0, tmp_path, how, minutes=1.0)
    before = json.loads(clock.read_text())
    longer = json.loads((home / "fit.json").read_text())
    assert longer["updates_taken"] == 4 and longer["seconds"] == pytest.approx(before["seconds"], abs=0.1)
    pixels.train("Diamond", GAME, 0, tmp_path, how, minutes=1.0)  # nothing is left to do, nothing is taken again
    assert json.loads((home / "fit.json").read_text())["updates_taken"] == 4
    assert json.loads(clock.read_text())["seconds"] >= before["seconds"]


def test_every_stage_cools_at_its_end():
    how = PixelFit(updates=100, tokenizer=0.4)
    assert how.config["tokenizer_steps"] == 40
    rates = [how.schedule(step) for step in range(100)]
    assert rates[0] == rates[20] == rates[40] == rates[70] == 1.0
    assert rates[39] < 0.1 and rates[99] < 0.1
    assert PixelFit(updates=100, changes={"context": 2}).config == {"context": 2}


def test_data_collected_half_are_not_taken_for_data(tmp_path, monkeypatch):
    def dies(replay, path):
        path.mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "save_replay", dies)
    with pytest.raises(KeyboardInterrupt):
        fitting.data("CartPole-v1", 0, 20, 4, 2, tmp_path)
    monkeypatch.undo()
    assert len(fitting.data("CartPole-v1", 0, 20, 4, 2, tmp_path)) == 20
    assert len(fitting.data("CartPole-v1", 0, 20, 4, 2, tmp_path)) == 20


def test_a_fit_goes_on_under_its_own_settings_alone(tmp_path):
    file, settings = tmp_path / "fit" / "settings.json", {"updates": 3, "seeds": (0, 1)}
    for _ in range(2):
        pixels.check_settings(file, settings)
    with pytest.raises(ValueError, match=r"updates was 3 and is 4.*Choose another --runs"):
        pixels.check_settings(file, {**settings, "updates": 4})
