"""Films keep their frames and their colours, and are whole or not there."""

import numpy as np
import pytest

from wmcomponents.evaluation import Reel, film_files, side_by_side, write_gif, write_mp4, write_video, write_webp

Image = pytest.importorskip("PIL.Image")
WHITE, INK = (255, 255, 255), (0x1F, 0x29, 0x33)


def film(path):
    """Its frames and how long each is shown, in milliseconds."""
    with Image.open(path) as image:
        shown = []
        for k in range(image.n_frames):
            image.seek(k)
            shown.append((np.asarray(image.convert("RGB")), image.info["duration"]))
    return [frame for frame, _ in shown], [duration for _, duration in shown]


def busy(steps=6, side=64, colours=256):
    """Pages whose image is noise, as a poor dream is: more colours than a palette has."""
    generator = np.random.default_rng(0)
    frames = [generator.integers(0, colours, (side, side, 3), dtype=np.uint8) for _ in range(steps + 1)]
    return side_by_side([Reel("reality", frames, [1.0] * steps), Reel("dream", frames[::-1], [0.5] * steps)])


def plain(steps=12):
    frames = [np.full((40, 60, 3), 20 * k, dtype=np.uint8) for k in range(steps + 1)]
    return side_by_side([Reel("reality", frames, [1.0] * steps, ended=steps)])


@pytest.mark.parametrize("write", [write_gif, write_webp])
def test_every_page_is_shown_for_its_time(write, tmp_path):
    pages = plain()
    frames, durations = film(write(pages, tmp_path / "new" / "film", fps=20))
    assert len(frames) == len(pages) and durations == [50] * (len(pages) - 1) + [1000]
    apart = [np.abs(shown.astype(int) - page).max() for shown, page in zip(frames, pages, strict=True)]
    assert max(apart) <= (4 if write is write_gif else 0)


def test_in_a_gif_of_noise_paper_stays_white_and_text_black(tmp_path):
    pages = busy()
    frames, _ = film(write_gif(pages, tmp_path / "film.gif"))
    assert len(frames) == len(pages)
    for shown, page in zip(frames, pages, strict=True):
        for colour in (WHITE, INK):
            there = (page == colour).all(-1)
            assert there.any() and (shown[there] == colour).all()
        assert np.abs(shown.astype(int) - page).mean() < 12


def test_a_limit_takes_quality_and_size_but_no_frame(tmp_path):
    pages = busy(steps=3)
    whole = write_gif(pages, tmp_path / "whole.gif", max_bytes=10**9).stat().st_size
    small = write_gif(pages, tmp_path / "small.gif", max_bytes=whole // 4)
    frames, _ = film(small)
    assert small.stat().st_size <= whole // 4 and len(frames) == len(pages)
    assert (frames[0][1, 1] == WHITE).all()


def test_a_webp_below_its_limit_is_exact_and_above_it_keeps_all_frames(tmp_path):
    pages = busy(steps=3)
    exact = write_webp(pages, tmp_path / "exact.webp", max_bytes=10**9)
    assert all((shown == page).all() for shown, page in zip(film(exact)[0], pages, strict=True))
    small = write_webp(pages, tmp_path / "small.webp", max_bytes=exact.stat().st_size // 2)
    frames, _ = film(small)
    assert small.stat().st_size <= exact.stat().st_size // 2 and len(frames) == len(pages)
    assert (frames[0][:4, :4] > 250).all()


def test_an_mp4_holds_every_page(tmp_path):
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    odd = [page[:-1, :-1] for page in plain()]
    path = write_mp4(odd, tmp_path / "film.mp4", fps=10)
    assert ffmpeg.count_frames_and_secs(str(path))[0] == len(odd)
    assert [file.name for file in tmp_path.iterdir()] == ["film.mp4"]


class Torn:
    """Frames of which the third cannot be had: whoever writes them is interrupted in the middle."""

    def __init__(self, frames):
        self.frames = frames

    def __len__(self):
        return len(self.frames)

    def __getitem__(self, k):
        return self.frames[k]

    def __iter__(self):
        yield from self.frames[:2]
        raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["film.gif", "film.webp", "film.mp4"])
def test_an_interrupted_film_leaves_the_old_one_or_none(name, tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    pages = plain(steps=4)
    with pytest.raises(KeyboardInterrupt):
        write_video(Torn(pages), tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    before = write_video(pages, tmp_path / name).read_bytes()
    with pytest.raises(KeyboardInterrupt):
        write_video(Torn(pages), tmp_path / name)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [before]


def test_an_mp4_that_lost_frames_on_the_way_is_no_film(tmp_path, monkeypatch):
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    monkeypatch.setattr(ffmpeg, "count_frames_and_secs", lambda path: (2, 0.1))
    with pytest.raises(OSError, match="2 of 5 frames.*disk full"):
        write_mp4(plain(steps=4), tmp_path / "film.mp4")
    assert list(tmp_path.iterdir()) == []


def test_the_suffix_decides_and_others_are_refused(tmp_path):
    pages = plain(steps=2)
    assert write_video(pages, tmp_path / "film.GIF").is_file()
    with pytest.raises(ValueError, match="gif, .webp or .mp4"):
        write_video(pages, tmp_path / "film.avi")
    for write in (write_gif, write_webp, write_mp4):
        with pytest.raises(ValueError, match="at least one frame"):
            write([], tmp_path / "film")
    assert film_files.MAX_BYTES == 2_000_000
