"""Worlds that are played: what is measured of them, and a whole run of little ones."""

from dataclasses import replace

import pytest
import torch

pytest.importorskip("stable_baselines3")
pytest.importorskip("minatar")
pytest.importorskip("matplotlib")

from benchmarks import dream_only, pixels, playable, playable_page
from benchmarks.pixel_worlds import MINATAR
from benchmarks.playable_worlds import FITS
from wmcomponents.data.boards import PALETTE

LITTLE = {"patch": 5, "dim": 8, "heads": 2, "head_dim": 4, "vocabulary": 8, "rounds": 2, "frames": 8}
LITTLE |= {"outcome_blocks": 1, "outcome_dim": 8, "outcome_heads": 2}
NETS = {
    "Genie": {**{"encoder_dim": 8, "encoder_heads": 2, "decoder_dim": 8, "decoder_heads": 2, "action_patch": 5}},
    "GenieReduxG": {"patch": 8},
}


@pytest.mark.slow
@pytest.mark.parametrize("family", ["Genie", "GenieReduxG"])
def test_a_little_world_is_fitted_measured_played_and_told_of(family, tmp_path, monkeypatch):
    small = {"REAL_STEPS": 400, "HELD_OUT_STEPS": 300, "HELD_OUT_SEQUENCES": 8, "PLAYED": 3, "PLAY_STEPS": 4}
    for name, value in {**small, "LABELLED": 20, "SHOWN_AT": (1, 4)}.items():
        monkeypatch.setattr(playable, name, value)
    for name in ("REAL_STEPS", "HELD_OUT_STEPS"):
        monkeypatch.setattr(pixels, name, small[name])
    for name, value in {"EPISODES": 2, "GLANCE_EPISODES": 2, "POOL": 4, "BUNDLE_EVERY": 1}.items():
        monkeypatch.setattr(dream_only, name, value)
    monkeypatch.setattr(playable, "PPO", {**playable.PPO, "round_steps": 16})
    key = (family, MINATAR)
    monkeypatch.setitem(playable.GAMES, key, replace(playable.GAMES[key], film_steps=6))
    how = replace(FITS[key], updates=4, tokenizer=0.5, batch_size=4, changes={**LITTLE, **NETS[family]})
    found = playable.fit(family, MINATAR, 0, tmp_path, how)
    assert found == playable.fit(family, MINATAR, 0, tmp_path, how)
    assert len(found["played"]["nearest"]) == 3 and ("codes" in found) == (family == "Genie")
    plan = dream_only.Plan(rounds=1, look_every=1, dreams=4)
    earned = playable.agent(family, 0, tmp_path, plan)
    assert len(earned["curve"][-1]["returns"]) == 2 and ("codes" in earned) == (family == "Genie")
    playable.guessing(0, tmp_path)
    playable_page.report(tmp_path, tmp_path / "out")
    page = (tmp_path / "out" / "playable.md").read_text()
    assert f"PPO in {playable.FAMILIES[family]}" in page and "| uniform actions | 0 |" in page


def test_the_nearest_known_frame_is_found_by_its_squared_error():
    known = torch.zeros(2, 1, 2, 3, dtype=torch.uint8)
    known[1] = 255
    frames = torch.tensor([[[[0, 0, 0], [0, 0, 51]]], [[[255, 255, 255], [255, 255, 255]]]], dtype=torch.uint8)
    expected = -10 * torch.log10(torch.tensor(0.2**2 / 6))
    torch.testing.assert_close(playable.nearest(frames, known), torch.stack([expected, torch.tensor(60.0)]))


def test_motion_is_the_share_of_pixels_that_change_by_more_than_a_tenth():
    before = torch.zeros(1, 2, 2, 3, dtype=torch.uint8)
    after = before.clone()
    after[0, 0, 0, 1], after[0, 1, 1, 2] = 26, 25
    assert playable.motion(before, after) == 0.25


def test_a_board_is_whole_with_one_paddle_and_one_ball():
    frames = torch.zeros(4, 4, 4, 3, dtype=torch.uint8)
    paddle, ball = (torch.tensor(PALETTE[number]) for number in (0, 1))
    frames[:, 3, 0], frames[:2, 1, 2] = paddle, ball
    frames[1, 3, 3] = paddle
    frames[3, 1, 2] = ball // 4  # nearer to black
    assert playable.is_whole(frames).tolist() == [True, False, False, False]
