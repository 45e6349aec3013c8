import errno
import os
import threading

import pytest
import torch

from tests.support.counting_replay import buffer, last_number, walk
from wmcomponents._whole import NoPlaceError
from wmcomponents.data import BadDataError, DataWriter, FolderInUseError, load_replay, read_description, save_replay
from wmcomponents.data import folder as folder_module
from wmcomponents.data.folder import open_saved


def steps_of(first: int, count: int):
    replay = buffer(False)
    walk(replay, first, count)
    return replay.storage[:].exclude("index")


def test_a_folder_has_one_writer_and_its_readers_are_not_kept_out(tmp_path):
    replay = buffer(False)
    walk(replay, 0, 100)
    save_replay(replay, tmp_path)
    refused = []

    def second():
        try:
            save_replay(replay, tmp_path)
        except FolderInUseError as error:
            refused.append(str(error))

    with DataWriter(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        assert last_number(load_replay(buffer(False), tmp_path)) == 99
    assert len(refused) == 1 and "writes to" in refused[0] and str(tmp_path) in refused[0]
    save_replay(replay, tmp_path)


def test_a_reader_sees_one_save_while_another_takes_its_place(tmp_path):
    replay = buffer(False)
    walk(replay, 0, 100)
    save_replay(replay, tmp_path)
    stop = threading.Event()
    saves = []

    def save_over():
        while not stop.is_set():
            walk(replay, 100 + 10 * len(saves), 10)
            save_replay(replay, tmp_path)
            saves.append(None)

    thread = threading.Thread(target=save_over)
    thread.start()
    try:
        seen = [last_number(load_replay(buffer(False), tmp_path)) for _ in range(30)]
    finally:
        stop.set()
        thread.join()
    assert seen == sorted(seen) and all(number % 10 == 9 for number in seen)


def test_what_is_appended_after_a_save_follows_on_and_what_was_not_saved_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_module, "PART_BYTES", 20 * 420)  # several files
    with DataWriter(tmp_path) as writer:
        writer.append(steps_of(0, 50))
        writer.save(note="first")
        writer.append(steps_of(50, 50))
    assert open_saved(tmp_path).rows == 50
    with DataWriter(tmp_path, append=True) as writer:
        for first in range(50, 110, 3):
            writer.append(steps_of(first, 3))
            writer.save(note="second")
    saved = open_saved(tmp_path)
    assert read_description(tmp_path)["note"] == "second" and len(saved.content["parts"]) > 3
    assert sorted(file.name for file in tmp_path.glob("*.bin")) == [part["file"] for part in saved.content["parts"]]
    replay = load_replay(buffer(False), tmp_path)
    assert last_number(replay) == 109 and len(replay) == 110


def test_steps_of_another_kind_are_not_appended(tmp_path):
    with DataWriter(tmp_path) as writer:
        writer.append(steps_of(0, 5))
        with pytest.raises(ValueError, match="those before them"):
            writer.append(steps_of(5, 5).exclude("action"))
        with pytest.raises(TypeError, match="keeps tensors of"):
            writer.append(steps_of(5, 5).apply(lambda one: one.to(torch.complex64)))


@pytest.mark.parametrize("moment", range(3))
def test_a_disk_that_is_full_leaves_the_save_before(tmp_path, monkeypatch, moment):
    replay = buffer(False)
    walk(replay, 0, 100)
    save_replay(replay, tmp_path)
    walk(replay, 100, 100)
    written = []
    whole = folder_module.written_whole

    class Full:
        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class Filling:
        def __init__(self, path):
            self.opened = whole(path)

        def __enter__(self):
            self.file = self.opened.__enter__()
            written.append(None)
            return Full() if len(written) > moment else self.file

        def __exit__(self, *error):
            return self.opened.__exit__(*error)

    monkeypatch.setattr(folder_module, "written_whole", Filling)
    if moment < 2:
        with pytest.raises(OSError, match="No space left"):
            save_replay(replay, tmp_path)
    else:
        save_replay(replay, tmp_path)
    monkeypatch.undo()
    assert last_number(load_replay(buffer(False), tmp_path)) == (99 if moment < 2 else 199)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_limit_on_the_size_of_files_is_an_error_and_not_a_signal(tmp_path):
    from tests.support.killing import signalled

    replay = buffer(False)
    walk(replay, 0, 200)

    def work():
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
        try:
            save_replay(replay, tmp_path)
        except OSError as error:
            return 3 if error.errno == errno.EFBIG else 4
        return 5

    assert signalled(work, 0.0, 0) == 3
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_to_or_is_too_small_is_told_first(tmp_path, monkeypatch):
    replay = buffer(False)
    walk(replay, 0, 100)
    (tmp_path / "file").touch()
    with pytest.raises(NoPlaceError, match="nothing can be written"):
        save_replay(replay, tmp_path / "file" / "data")
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 2**20}))
    walk(replay, 100, 200)
    big = replay.storage[:].exclude("index")
    assert big.bytes() < 2**20
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(NoPlaceError, match="space left"):
        save_replay(replay, tmp_path / "data")


def test_folders_of_the_earlier_format_are_named_as_such(tmp_path):
    (tmp_path / "replay.json").write_text('{"capacity": 300, "ndim": 1}')
    with pytest.raises(BadDataError, match="earlier version"):
        load_replay(buffer(False), tmp_path)
    (tmp_path / "data.json").write_text('{"format": 1, "env": "CartPole-v1"}')
    with pytest.raises(BadDataError, match="earlier version"):
        read_description(tmp_path)
