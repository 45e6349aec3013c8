import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("av")

from tests.support.films import film, frames
from tests.support.recorded import Known, check, cut_short, read
from wmcomponents.data import BadDataError
from wmcomponents.data.datasets import open_source, rows
from wmcomponents.data.datasets.frames import FilmRows, read_image, resized


def known(count, seed, died=False):
    rng = np.random.default_rng(seed)
    moves = rng.uniform(-1, 1, (count - 1, 2)).astype(np.float32)
    return Known({"pixels": frames(count, seed=seed)}, moves, rng.normal(size=count - 1).astype(np.float32), died)


@pytest.mark.parametrize("piece", [3, 4096])
def test_films_with_actions_beside_them_come_back_exactly(tmp_path, monkeypatch, piece):
    monkeypatch.setattr(rows, "MOST_ROWS", piece)
    episodes = [known(7, 0), known(5, 1, died=True), known(4, 2)]
    for number, each in enumerate(episodes):
        film(tmp_path / f"{number}.mkv", each.observations["pixels"])
        died = np.arange(len(each.actions)) == len(each.actions) * each.terminated - 1
        np.savez(tmp_path / f"{number}.npz", actions=each.actions, rewards=each.rewards, terminated=died)
    check(open_source("video", tmp_path), episodes)


def test_an_action_for_every_frame_is_one_too_many_to_know_what_it_led_to(tmp_path):
    each = known(6, 0)
    film(tmp_path / "a.mkv", each.observations["pixels"])
    more = each._replace(actions=np.concatenate([each.actions, each.actions[:1]]), rewards=np.zeros(6, np.float32))
    np.save(tmp_path / "a.npy", more.actions)
    recording = open_source("video", tmp_path)
    check(recording, [each._replace(rewards=np.zeros(5, np.float32))])
    assert len(recording.notes) == 2  # the last is missing, and there are no rewards


def test_one_file_of_actions_a_table_and_no_actions_at_all(tmp_path):
    each = known(5, 0)
    film(tmp_path / "a.mkv", each.observations["pixels"])
    np.savez(tmp_path / "moves.npz", a=np.array([0, 2, 1, 2]))
    assert read(open_source("video", tmp_path, actions="moves.npz"))["action"].argmax(-1).tolist() == [0, 2, 1, 2]
    (tmp_path / "a.csv").write_text("steer,gas\n0.5,1\n-1,0\n0,0\n0.25,1\n")
    assert read(open_source("video", tmp_path))["action"].tolist() == [[0.5, 1], [-1, 0], [0, 0], [0.25, 1]]
    (tmp_path / "a.csv").unlink()
    with pytest.raises(BadDataError, match="a world model learns what actions lead to.*actions=none"):
        open_source("video", tmp_path)
    alone = open_source("video", tmp_path, actions="none")
    assert read(alone)["action"].tolist() == [[1]] * 4 and "nothing can act in it" in alone.notes[0]


@settings(max_examples=4, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 12)), min_size=1, max_size=6))
def test_frames_are_read_by_any_slices(film_of_twelve, slices):
    path, wanted = film_of_twelve
    opened = FilmRows(path)
    for start, stop in slices:
        if start <= stop:
            assert np.array_equal(opened[start:stop], wanted[start:stop])


@pytest.fixture(scope="module")
def film_of_twelve(tmp_path_factory):
    path, wanted = tmp_path_factory.mktemp("film") / "a.mkv", frames(12)
    film(path, wanted)
    return path, wanted


def test_frames_are_kept_by_their_times_and_brought_to_a_size(film_of_twelve):
    path, wanted = film_of_twelve
    some = FilmRows(path, fps=5, size=8)
    assert some.shape == (3, 8, 8, 3)
    assert np.array_equal(some[0:3], np.stack([resized(wanted[number], 8) for number in (0, 4, 8)]))
    halves = np.zeros((16, 16, 3), np.uint8)
    halves[:, 8:] = 200
    assert np.array_equal(resized(halves, 2)[0, :, 0], [0, 200]) and resized(halves[..., 0], 4).shape == (4, 4)


def test_more_frames_a_second_than_a_film_shows_are_refused(film_of_twelve):
    path, wanted = film_of_twelve  # 20 a second
    with pytest.raises(BadDataError, match=r"shows 20 frames a second, and fps=30 are asked for"):
        FilmRows(path, fps=30)
    assert FilmRows(path, fps=20).shape[0] == len(wanted)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_films_whose_frames_are_stored_out_of_order_are_shown_in_order(tmp_path, codec):
    brightness = np.arange(20, 220, 10).astype(np.uint8)
    film(tmp_path / "a.mp4", np.broadcast_to(brightness[:, None, None, None], (20, 32, 32, 3)), codec=codec)
    shown = FilmRows(tmp_path / "a.mp4")
    assert shown.shape[0] == 20
    assert np.abs(shown[0:20].mean((1, 2, 3)) - brightness).max() < 6


PLAYLISTS = {
    "a list of files": "ffconcat version 1.0\nfile a.mkv\n",
    "a list of addresses": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nhttp://localhost/a.mkv\n#EXT-X-ENDLIST\n",
    "text": "no film at all",
    "nothing": "",
}


@pytest.mark.parametrize("what", PLAYLISTS)
def test_a_film_that_is_none_or_that_names_other_files_is_refused(tmp_path, film_of_twelve, what):
    (tmp_path / "a.mkv").write_bytes(film_of_twelve[0].read_bytes())
    (tmp_path / "b.mp4").write_text(PLAYLISTS[what])
    with pytest.raises(BadDataError, match=r"b\.mp4"):
        open_source("video", tmp_path / "b.mp4", actions="none")
    with pytest.raises(BadDataError, match="cannot be decoded"):
        read_image(tmp_path / "b.mp4")


def test_a_film_that_is_cut_off_is_refused_when_its_end_is_missed(tmp_path, film_of_twelve):
    data = film_of_twelve[0].read_bytes()
    (tmp_path / "a.mkv").write_bytes(data[: len(data) // 2])
    try:
        assert read(open_source("video", tmp_path / "a.mkv", actions="none"))["pixels"].shape[0] < 11
    except BadDataError as error:
        assert "a.mkv" in str(error)


def test_cut_short_is_what_the_rule_says():
    each = known(5, 0, died=True)
    assert len(cut_short(each).actions) == 4 and len(cut_short(each._replace(terminated=False)).actions) == 3
