"""Online training killed at chosen places, at random moments within them: it ends as the run that was left alone.

A kill falls after a random number of calls into what a place does: into an environment's step, into the collection
around it, an update of the model or of the agent, an evaluation, a bundle, or what is tidied up on going on. A few run
in the suite. More of them, with where they fell::

    python -m tests.fuzz.test_killed_online COUNT [SEED] [STREAMS]
"""

import collections
import functools
import hashlib
import json
import os
import random
import select
import signal
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path

import pytest
import torch

from tests.support.online_runs import SCHEDULE, Drift, run, weights
from wmcomponents.agents import OnlineTrainer, bundle, online
from wmcomponents.training import Trainer

STEPS = 120
KILLS = int(os.environ.get("WMC_KILLS", 3))

PLACES = {
    "an environment's step": (Drift, "step"),
    "a bundle": (bundle, "write"),
    "an update": (Trainer, "update"),
    "an evaluation": (OnlineTrainer, "evaluate"),
    "a collection": (OnlineTrainer, "_collect"),
    "going on": (OnlineTrainer, "_begin"),
    "the agent's learning": (OnlineTrainer, "_learn"),
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
]


def around(place, before, after):
    """Call ``before`` and ``after`` around every visit of a place."""
    owner, name = PLACES[place]
    work = getattr(owner, name)

    @functools.wraps(work)
    def wrapped(*args, **kwargs):
        before()
        try:
            return work(*args, **kwargs)
        finally:
            after()

    setattr(owner, name, wrapped)


def measure(visits):
    """Count the calls and returns within each visit of each place, into ``visits``."""
    calls, entered = [0], collections.defaultdict(list)

    def count(frame, event, argument):
        calls[0] += 1

    for place in PLACES:
        around(
            place,
            lambda place=place: entered[place].append(calls[0]),
            lambda place=place: visits[place].append(calls[0] - entered[place].pop()),
        )
    sys.setprofile(count)


def lie_in_wait(place, is_due, calls, told):
    """On the first visit of a place once it is due: stop there for good after so many calls, and say where."""
    waiting, left = [True], [calls]

    def stop(where):
        os.write(told, where)
        time.sleep(600)

    def count(frame, event, argument):
        left[0] -= 1
        if left[0] <= 0:
            stop(b"within")

    def enter():
        if waiting[0] and is_due():
            waiting[0] = False
            sys.setprofile(count)

    def leave():
        if not waiting[0]:
            stop(b"at its end")  # it was shorter than measured: its end is a moment too

    around(place, enter, leave)


def train(out, streams, prepare=None):
    """The program: the same each time, whether it begins or goes on."""
    trainer = run(out, streams=streams, schedule=SCHEDULE, logger="csv", save_seconds=0.02)
    resumed_at = trainer.real_steps
    if prepare is not None:
        prepare(trainer)
    trainer.train(STEPS)
    return {
        "resumed_at": resumed_at,
        "weights": hashlib.sha256(weights(trainer).numpy().tobytes()).hexdigest(),
        "episodes": trainer.episodes,
        "evaluations": trainer.evaluations,
        "counts": [trainer.real_steps, trainer.global_step, trainer.agent.dreamed_steps],
    }


def forked(work):
    """A child that does it with one thread, and the pipe into which what it returns is written."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch has threads, and the child does without them
        child = os.fork()
    if child:
        os.close(write)
        return child, read
    try:
        os.close(read)
        torch.set_num_threads(1)
        online.SAVING_SHARE = 1.0  # bundles by the clock, however dear
        found = work(write)
        sys.setprofile(None)
        os.write(write, json.dumps(found).encode())
        os._exit(0)
    finally:
        os._exit(70)


def finished(child, read):
    """What a child that was left alone found."""
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, "the run itself failed"
    return json.loads(said)


def killed(child, read):
    """Kill a child once it has stopped somewhere; whether that was within the place or at its end."""
    try:
        assert select.select([read], [], [], 300)[0], "the run did not come to the place"
        where = os.read(read, 100).decode()
        assert where in ("within", "at its end"), "the run ended before it came to the place"
    finally:
        os.kill(child, signal.SIGKILL)
        os.close(read)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    return where


def logged(out):
    """The log of episodes and evaluations, which has no losses: those are written by the clock."""
    scalars = out / "logs" / "scalars"
    names = ("real/return", "real/length", "evaluation/return")
    return {name: (scalars / f"{name}.csv").read_text() for name in names}


def campaign(folder, count, seed=0, streams=1):
    """Kill one run again and again, further on each time; where the kills fell."""

    def measured(told):
        visits = collections.defaultdict(list)
        found = train(folder / "whole", streams, prepare=lambda trainer: measure(visits))
        return {**found, "calls": {place: statistics.median(visits[place]) for place in PLACES}}

    whole = finished(*forked(measured))
    assert whole.pop("resumed_at") == 0
    calls, out, chance, fell = whole.pop("calls"), folder / "killed", random.Random(seed), collections.Counter()
    places = [place for _ in range(count) for place in chance.sample(list(PLACES), len(PLACES))][:count]
    for number, place in enumerate(places):
        due = 0.95 * STEPS * (number + chance.random()) / count
        after = chance.uniform(0.0, calls[place])

        def work(told, place=place, due=due, after=after):
            def prepare(trainer):
                lie_in_wait(place, lambda: place == "going on" or trainer.real_steps >= due, after, told)

            return train(out, streams, prepare=prepare)

        fell[f"{place}, {killed(*forked(work))}"] += 1
    last = finished(*forked(lambda told: train(out, streams)))
    assert last.pop("resumed_at") > 0
    assert last == whole
    assert logged(out) == logged(folder / "whole")
    assert len(list(out.glob("bundle-*"))) == 1
    return fell


@pytest.mark.parametrize("streams", [1, 2])
def test_a_run_killed_again_and_again_ends_with_the_weights_and_the_episodes_of_one_left_alone(tmp_path, streams):
    fell = campaign(tmp_path, KILLS, seed=streams, streams=streams)
    assert fell.total() == KILLS


if __name__ == "__main__":
    count, seed, streams = [int(one) for one in sys.argv[1:]] + [0, 1][len(sys.argv) - 2 :]
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        found = campaign(Path(place), count, seed, streams)
    print(json.dumps({"kills": count, "seconds": round(time.monotonic() - begun, 1), **found}, indent=1))
