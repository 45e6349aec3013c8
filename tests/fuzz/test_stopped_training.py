"""`wmc train` and `wmc demo` stopped at random moments: saved, gone on with by the printed command, equal in the end.

A few moments run in the suite. More of them::

    python -m tests.fuzz.test_stopped_training {train,demo} {INT,TERM,KILL} COUNT [SEED]
    python -m tests.fuzz.test_stopped_training {train,demo} FULL COUNT SEED SMALL_DISK

where SMALL_DISK is a mounted file system of a few megabytes, which is filled up at the random moments.
"""

import collections
import hashlib
import json
import os
import random
import shlex
import shutil
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

import pytest
import torch

from wmcomponents.cli import main
from wmcomponents.evaluation import report
from wmcomponents.training import Trainer

EVERY = 0.3
"""Seconds between checkpoints by the clock in these runs, for they are short."""

SIZES = "deter=32 hidden=16 groups=4 classes=4 units=16 blocks=4 layers=1 bins=41"
SMALL = f"--batch-size 4 --sequence-length 16 --changes {SIZES}"
OPTIONS = {
    "train": f"--steps 60 --checkpoint-every 1000 --start-states 32 {SMALL}",
    "demo": f"--real-steps 200 --rounds 2 --updates 15 --dream-steps 1024 --final-dream-steps 2048 --dreams 8 "
    f"--episodes 2 {SMALL}",
}
TRAINED = {"train": ["checkpoint.safetensors", "logs", "model", "run.json", "training.json"]}


def started(arguments, log, told=None):
    """`wmc` in a fork: its number, with its output in a file; a byte into ``told`` after each update."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch has threads; the child begins its own work
        child = os.fork()
    if child:
        return child
    code = 70
    try:
        with open(log, "w") as file:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        Trainer._next_due = lambda self, cost: time.monotonic() + EVERY
        tell = report.dream_report
        report.dream_report = lambda *args, **options: tell(
            *args, **options, steps=200, horizon=5, film_steps=5, samples=2
        )
        if told is not None:
            update = Trainer.update

            def telling(self, *batches):
                out = update(self, *batches)
                os.write(told, b"u")
                return out

            Trainer.update = telling
        code = main(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def ended(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def wait(child, seconds):
    """The exit code, if it ends within so many seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    return None


def digest(out):
    return hashlib.sha256((out / "model" / "model.safetensors").read_bytes()).hexdigest()


def result(log):
    return json.loads(log.read_text().strip().splitlines()[-1])


class Campaign:
    """Runs of one command, each stopped once and gone on with.

    Args:
        folder: for everything.
        command: ``train`` or ``demo``.
        disk: where the runs write; below ``folder`` if not given.
    """

    def __init__(self, folder, command, disk=None):
        self.folder, self.command, self.disk = folder, command, disk or folder
        self.data = folder / "data"
        code = ended(
            started(["collect", "--env", "CartPole-v1", "--steps", "300", "--out", str(self.data)], folder / "l")
        )
        assert code == 0, (folder / "l").read_text()
        begun = time.monotonic()
        assert ended(started(self.arguments(folder / "whole"), folder / "log")) == 0, (folder / "log").read_text()
        self.seconds = time.monotonic() - begun
        self.whole = digest(folder / "whole")

    def arguments(self, out):
        data = ["--data", str(self.data)] if self.command == "train" else []
        return [self.command, *data, "--out", str(out), *OPTIONS[self.command].split()]

    def stopped(self, number, after, how):
        """One run, stopped after so many seconds; what became of it."""
        out, log = self.disk / f"run{number}", self.folder / "log"
        read, write = os.pipe()
        child = started(self.arguments(out), log, write)
        os.close(write)
        code = wait(child, after)
        if code is None:
            filler = self.disk / "filler"
            if how == "FULL":
                fill(filler)
            else:
                os.kill(child, getattr(signal, f"SIG{how}"))
            code = ended(child)
            if how == "FULL":
                self.check_full(code, log.read_text(), out)
                filler.unlink()
        updates = len(os.read(read, 10**6))
        os.close(read)
        said = log.read_text()
        if code == 0:
            shutil.rmtree(out)
            return "it was done before"
        expected = {"INT": 130, "TERM": 143, "KILL": -9, "FULL": 1}[how]
        assert code == expected, f"exit {code}: {said[-2000:]}"
        again = self.arguments(out)
        if how in ("INT", "TERM"):
            line = said.strip().splitlines()[-1]
            again = shlex.split(line.split("wmc ", 1)[1].split(": wmc ", 1)[-1].split("wmc ", 1)[-1])
            assert again == self.arguments(out), line
        hidden = [str(path) for path in out.rglob(".*")] if out.exists() else []
        assert not hidden, hidden
        code = ended(started(again, log))
        assert code == 0, log.read_text()[-2000:]
        found = result(log)
        if self.command == "train":
            lost = updates - found["resumed_at"]
            assert lost <= 0 if how in ("INT", "TERM") else True, f"{lost} updates are lost"
            assert digest(out) == self.whole, "it did not end as the uninterrupted run"
            assert sorted(path.name for path in out.iterdir()) == TRAINED["train"]
            outcome = f"lost {lost}" if how in ("KILL", "FULL") else "lost 0"
        else:
            assert (found["real_steps"], found["dream_steps"]) == (200, 3072) and not (out / "unfinished").exists()
            outcome = "gone on" if "going on in round" in log.read_text() else "begun again"
        shutil.rmtree(out)
        return outcome

    def check_full(self, code, said, out):
        if code == 0:  # nothing was written any more
            return
        assert code == 1 and ("No space left" in said or "of space left" in said or "is there room" in said), said[
            -2000:
        ]
        bundles = list(out.rglob("checkpoint.safetensors"))
        from wmcomponents.training import checkpoint

        for bundle in bundles:
            checkpoint._read(bundle)  # whole


def fill(path):
    """Take all the space that is left."""
    with open(path, "wb", buffering=0) as file:
        for size in (2**16, 2**12, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue


def campaign(folder, command, how, count, seed=0, disk=None):
    chance, found = random.Random(seed), collections.Counter()
    runs = Campaign(folder, command, disk)
    for number in range(count):
        found[runs.stopped(number, chance.uniform(0.05, 0.95) * runs.seconds, how)] += 1
        print(command, how, number, dict(found), file=sys.stderr, flush=True)
    return runs.seconds, found


@pytest.mark.slow
@pytest.mark.parametrize("how", ["INT", "TERM", "KILL"])
def test_a_training_stopped_at_random_moments_goes_on_and_ends_the_same(tmp_path, how):
    pytest.importorskip("tyro")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _, found = campaign(tmp_path, "train", how, 2, seed=7)
    finally:
        torch.set_num_threads(threads)
    assert sum(found.values()) == 2


if __name__ == "__main__":
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell has ignored for what it runs behind it
    command, how, count, *rest = sys.argv[1:]
    import wmcomponents.cli.demo_command  # noqa: F401

    with tempfile.TemporaryDirectory() as place:
        disk = Path(rest[1]) if len(rest) > 1 else None
        seconds, found = campaign(Path(place), command, how, int(count), int(rest[0]) if rest else 0, disk)
    print(json.dumps({"command": command, "how": how, "seconds": round(seconds, 1), **found}))
