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

from tests.support.running import learnt
from wmcomponents.cli import demo_steps, main
from wmcomponents.data.episodes import EpisodeStream
from wmcomponents.data.folder import open_saved
from wmcomponents.evaluation import report
from wmcomponents.training import Trainer, checkpoint

EVERY = 0.3
"""Seconds between checkpoints by the clock in these runs, for they are short."""

SIZES = "deter=32 hidden=16 groups=4 classes=4 units=16 blocks=4 layers=1 bins=41"
SMALL = f"--batch-size 4 --sequence-length 16 --changes {SIZES}"
OPTIONS = {
    "train": f"--steps 60 --checkpoint-every 1000 --start-states 32 {SMALL}",
    "demo": f"--real-steps 300 --rounds 2 --updates 15 --dream-steps 2048 --final-dream-steps 3072 --dreams 8 "
    f"--episodes 2 {SMALL}",
}
TRAINED = ["checkpoint.safetensors", "logs", "model", "run.json", "training.json"]


def started(arguments, log, told=None):
    """`wmc` in a fork: its number, with its output in a file; a byte into ``told`` after each piece of work.

    These are real steps (``s``), updates of the model (``u``) and rollouts of the agent (``r``).
    """
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
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has it ignored for what it runs behind it
        Trainer._next_due = lambda self, cost: time.monotonic() + EVERY
        tell = (lambda kind, count=1: None) if told is None else lambda kind, count=1: os.write(told, kind * count)
        tell_of(Trainer, "update", lambda _: tell(b"u"))
        if arguments[0] == "demo":
            prepare_demo(tell)
        code = main(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def prepare_demo(tell):
    """Make a demo short, and let it tell of its work."""
    from stable_baselines3 import PPO

    from wmcomponents.cli import demo_rounds

    draw = report.dream_report
    report.dream_report = lambda *args, **options: draw(*args, **options, steps=200, horizon=5, film_steps=5, samples=2)
    demo_steps.STEPS_AT_A_TIME, demo_rounds.POOL = 25, 256
    tell_of(EpisodeStream, "take", lambda steps: tell(b"s", len(steps)))
    tell_of(PPO, "train", lambda _: tell(b"r"))


def tell_of(owner, name, tell):
    work = getattr(owner, name)

    def telling(*args, **kwargs):
        out = work(*args, **kwargs)
        tell(out)
        return out

    setattr(owner, name, telling)


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


def written(out, command):
    """Hashes of what a run wrote and of what it found, without the clock: times stand in logs and in agents."""
    files = {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and "checkpoint" not in path.name and path.name != "run.json" and path.parent.name != "logs"
    }
    if command == "demo":
        files["agent.zip"] = learnt(out / "agent.zip")
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def result(log):
    return json.loads(log.read_text().strip().splitlines()[-1])


def figures(found):
    """What a run found, without its place, its time and where it was gone on with."""
    return {key: value for key, value in found.items() if key not in ("seconds", "files", "model", "resumed_at")}


def differences(one, other):
    """What differs between the files and between the figures of two runs."""
    return [
        (key, left.get(key), right.get(key))
        for left, right in zip(one, other, strict=True)
        for key in sorted(left.keys() | right.keys())
        if left.get(key) != right.get(key)
    ]


def kept(out):
    """How much of its work an unfinished demo has on disk: real steps, updates, rollouts."""
    folder = out / "unfinished"
    state = json.loads((folder / "demo.json").read_text())["state"] if (folder / "demo.json").exists() else {}
    steps = open_saved(folder / "data").rows if (folder / "data").exists() else 0
    counters = [
        json.loads(checkpoint.read_tensors(file)[1]["counters"]) if file.exists() else {"round": 0, "steps": 0}
        for file in (folder / "checkpoint.safetensors", folder / "agent.safetensors")
    ]
    before = state.get("dream_steps", 0) if counters[1]["round"] == state.get("round") else 0
    dreamt = max(state.get("dream_steps", 0), before + counters[1]["steps"])
    return {"s": steps, "u": counters[0]["steps"], "r": dreamt // 1024}


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
        self.whole = written(folder / "whole", command), figures(result(folder / "log"))

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
        told = os.read(read, 10**6).decode()
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
        if self.command == "demo" and how in ("INT", "TERM"):
            assert kept(out) == {piece: told.count(piece) for piece in "sur"}
        kept_at = said.strip().splitlines()[-3:], told.replace("s" * 25, "S")
        code = ended(started(again, log))
        assert code == 0, log.read_text()[-2000:]
        found = result(log)
        other = differences((written(out, self.command), figures(found)), self.whole)
        assert not other, f"stopped in {kept_at}: it did not end as the uninterrupted run, but with {other}"
        if self.command == "train":
            lost = told.count("u") - found["resumed_at"]
            assert lost <= 0 if how in ("INT", "TERM") else True, f"{lost} updates are lost"
            assert sorted(path.name for path in out.iterdir()) == TRAINED
            outcome = f"lost {lost}" if how in ("KILL", "FULL") else "lost 0"
        else:
            assert not (out / "unfinished").exists()
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
        for bundle in bundles:
            checkpoint.read_tensors(bundle)  # whole


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
    command, how, count, *rest = sys.argv[1:]
    import matplotlib.pyplot  # noqa: F401 - once, and not in every fork
    import stable_baselines3  # noqa: F401

    import wmcomponents.cli.demo  # noqa: F401

    with tempfile.TemporaryDirectory() as place:
        disk = Path(rest[1]) if len(rest) > 1 else None
        seconds, found = campaign(Path(place), command, how, int(count), int(rest[0]) if rest else 0, disk)
    print(json.dumps({"command": command, "how": how, "seconds": round(seconds, 1), **found}))
