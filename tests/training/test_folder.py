"""The folder of a run: one writer, nothing left behind, saved by the clock and when asked to stop."""

import os
import signal
import stat
import time

import pytest
import torch

from tests.support import corridor
from wmcomponents._lock import one_writer
from wmcomponents.training import FolderInUseError, Trainer


def trainer(out, **options):
    return Trainer(
        corridor.model(), corridor.replay(), out=out, **{"lr": 1e-3, "warmup": 5, "progress": False, **options}
    )


def same(one, other):
    one, other = one.model.state_dict(), other.model.state_dict()
    return all(torch.equal(one[key], other[key]) for key in one)


def while_another_holds(folder, do):
    """What happens here while a forked process holds the folder."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        with one_writer(folder):
            os.write(tell, b"x")
            time.sleep(60)
    os.read(told, 1)
    try:
        return do(child)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(told)
        os.close(tell)


def test_a_second_writer_is_refused_and_told_who_is_the_first(tmp_path):
    def second(child):
        with pytest.raises(FolderInUseError, match=rf"process {child} \(.*python.*\) writes to {tmp_path}: wait until"):
            trainer(tmp_path).train(1)

    while_another_holds(tmp_path, second)
    assert list(tmp_path.iterdir()) == []
    trainer(tmp_path).train(1)  # the lock ended with its process


def test_the_same_thread_may_enter_twice_and_another_may_not(tmp_path):
    import threading

    refused = []

    def other():
        try:
            with one_writer(tmp_path):
                pass
        except FolderInUseError as error:
            refused.append(str(error))

    with one_writer(tmp_path), one_writer(tmp_path):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert refused == [f"another thread of this process writes to {tmp_path}: wait for it."]
    other()
    assert len(refused) == 1


def test_a_trainer_does_not_write_over_what_another_has_written_since(tmp_path):
    one, other = trainer(tmp_path), trainer(tmp_path)
    one.train(1)
    with pytest.raises(FolderInUseError, match="was written by another trainer since this one was built"):
        other.train(1)
    assert trainer(tmp_path).steps == 1


def test_bundles_are_written_by_the_clock_too(tmp_path):
    class Stop(Exception):
        pass

    one = trainer(tmp_path, checkpoint_seconds=0.0)
    update = one.update

    def stopping(*batches):
        if one.steps == 3:
            raise Stop
        return update(*batches)

    one.update = stopping
    one._next_due = lambda cost: time.monotonic()
    with pytest.raises(Stop):
        one.train(50)
    assert trainer(tmp_path).steps == 3


def test_large_bundles_are_written_less_often_by_the_clock(tmp_path):
    one = trainer(tmp_path)
    for cost, wait in ((0.0, 10.0), (0.1, 10.0), (4.0, 80.0)):
        assert one._next_due(cost) - time.monotonic() == pytest.approx(wait, abs=0.5)
    assert trainer(tmp_path, checkpoint_seconds=None)._next_due(1.0) == float("inf")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["sample", "loss", "optimizer"])
def test_a_request_to_stop_is_taken_between_two_updates(tmp_path, signum, moment):
    one = trainer(tmp_path)
    holder, name = {
        "sample": (one.replay, "sample"),
        "loss": (one.objective, "elements"),
        "optimizer": (one.optimizer, "step"),
    }[moment]
    method, calls = getattr(holder, name), []

    def interrupted(*args):
        calls.append(one.steps)
        if len(calls) == (35 if moment == "sample" else 3):  # the first 32 are looked at to prepare the model
            os.kill(os.getpid(), signum)
        return method(*args)

    object.__setattr__(holder, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        one.train(50)
    assert one.steps == 3 and not one.model.training
    again, whole = trainer(tmp_path), trainer(None)
    assert again.steps == 3
    again.train(6)
    whole.train(6)
    assert same(again, whole) and again.losses == whole.losses


def test_a_second_request_stops_at_once_and_leaves_the_last_bundle(tmp_path):
    one = trainer(tmp_path, checkpoint_every=2)
    elements = one.objective.elements

    def impatient(tensordict):
        if one.steps == 3:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return elements(tensordict)

    one.objective.elements = impatient
    with pytest.raises(KeyboardInterrupt):
        one.train(9)
    assert trainer(tmp_path).steps == 2
    one.objective.elements = elements
    before = one.steps
    one.train(9)  # the model has its own weights, and is whole
    assert before == 3 and one.steps == 9


def test_a_full_disk_ends_with_its_name_and_leaves_the_last_bundle_whole(tmp_path, monkeypatch):
    one = trainer(tmp_path, checkpoint_every=2)
    one.train(2)
    monkeypatch.setattr("os.fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        one.train(4)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"]
    assert trainer(tmp_path).steps == 2


def test_a_bundle_has_the_mode_of_any_new_file(tmp_path):
    trainer(tmp_path).train(1)
    (tmp_path / "other").touch()
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_what_an_earlier_kill_left_is_taken_away(tmp_path):
    (tmp_path / ".checkpoint.safetensors.unfinished").write_bytes(b"half")
    trainer(tmp_path).train(1)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"]


def test_what_is_asked_behind_the_question_whether_to_save_is_taken_after_the_next_update(tmp_path, monkeypatch):
    one = trainer(tmp_path, log_every=1)
    monkeypatch.setattr(one, "_log", lambda newest: one.steps == 2 and os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        one.train(50)
    assert one.steps == 3 and trainer(tmp_path).steps == 3
