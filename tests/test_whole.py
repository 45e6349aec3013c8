"""Files are found whole: the old content or the new."""

import os
import signal
import stat
import time

import pytest

from wmcomponents import _whole
from wmcomponents._whole import NoPlaceError, check_place, write_whole, written_whole


@pytest.fixture(params=["nameless", "named"])
def way(request, monkeypatch):
    """Both ways of writing aside: with a file that has no name yet, and where there are no such files."""
    if request.param == "named":
        monkeypatch.setattr(_whole, "_nameless", lambda folder: None)
    return request.param


def test_the_new_content_takes_the_place_of_the_old(tmp_path, way):
    for text in ("old", "new"):
        write_whole(tmp_path / "file", text)
        assert (tmp_path / "file").read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_after_an_error_the_old_content_is_there_and_nothing_else(tmp_path, way):
    write_whole(tmp_path / "file", "old")
    with pytest.raises(OSError, match="full"), written_whole(tmp_path / "file") as file:
        file.write(b"ne")
        raise OSError("full")
    assert (tmp_path / "file").read_text() == "old" and [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_mode_is_that_of_any_new_file(tmp_path, way):
    write_whole(tmp_path / "file", b"")
    (tmp_path / "other").touch()
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("file", "other")]
    assert modes[0] == modes[1]


def test_a_writer_killed_in_the_middle_leaves_the_old_content_and_at_most_one_file_for_all_kills(tmp_path, way):
    write_whole(tmp_path / "file", "old")
    for _ in range(3):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            with written_whole(tmp_path / "file") as file:
                file.write(b"half")
                file.flush()
                os.write(write, b"x")
                time.sleep(60)
        os.read(read, 1)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(read)
        os.close(write)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == (["file"] if way == "nameless" and _whole._nameless(tmp_path) else [".file.unfinished", "file"])
    assert (tmp_path / "file").read_text() == "old"
    write_whole(tmp_path / "file", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_place_is_made_and_left_empty(tmp_path):
    assert list(check_place(tmp_path / "a" / "b").iterdir()) == []


def test_a_place_that_cannot_be_written_to_is_refused_with_its_reason(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NoPlaceError, match="nothing can be written to .*below .Not a directory.*another place"):
        check_place(tmp_path / "file" / "below")
    with pytest.raises(NoPlaceError, match="nothing can be written to /proc/1"):
        check_place("/proc/1/somewhere")


def test_a_place_without_space_is_refused_with_both_figures(tmp_path):
    with pytest.raises(NoPlaceError, match=r"MB of space left, and 1000000000000\.0 MB are needed: make room"):
        check_place(tmp_path, space=10**18)
