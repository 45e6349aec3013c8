"""What is stopped has saved, says how to go on, and ends as what was not stopped."""

import json
import os
import signal

import pytest
import torch

from tests.support.running import learnt, train_arguments, wmc
from wmcomponents import load
from wmcomponents._lock import one_writer
from wmcomponents.cli import demo_state
from wmcomponents.training import Trainer


@pytest.fixture
def stopped_at(monkeypatch):
    """Send a signal in the middle of an update."""

    def arm(step, signum=signal.SIGINT):
        update = Trainer.update

        def interrupted(self, *batches):
            if self.steps == step:
                os.kill(os.getpid(), signum)
                monkeypatch.setattr(Trainer, "update", update)
            return update(self, *batches)

        monkeypatch.setattr(Trainer, "update", interrupted)

    return arm


def weights(path):
    return load(path).state_dict()


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_training_that_is_stopped_goes_on_by_the_printed_command_and_ends_the_same(
    data, model, tmp_path, stopped_at, signum, code
):
    stopped_at(1, signum)
    arguments = train_arguments(data, tmp_path / "a run", steps=3)
    ran = wmc(*arguments)
    assert ran.code == code and ran.out == ""
    said = ran.err.strip().splitlines()[-1]
    assert said.startswith("wmc: interrupted. Go on where it stopped: wmc train --data ")
    import shlex

    again = wmc(*shlex.split(said.split(": ", 2)[2])[1:])
    assert again.code == 0 and again.result["resumed_at"] == 2
    assert same(weights(tmp_path / "a run" / "model"), weights(model))
    assert sorted(path.name for path in (tmp_path / "a run").iterdir()) == [
        "checkpoint.safetensors", "logs", "model", "run.json", "training.json",
    ]  # fmt: skip


def test_a_folder_in_use_is_refused_with_the_process_that_uses_it(data, tmp_path):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        with one_writer(tmp_path):
            os.write(write, b"x")
            signal.pause()
    os.read(read, 1)
    try:
        ran = wmc(*train_arguments(data, tmp_path))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert ran.code == 1 and f"process {child} (" in ran.err and "choose another folder" in ran.err
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_says_what_is_whole_and_how_to_go_on(data, tmp_path, monkeypatch):
    wmc(*train_arguments(data, tmp_path, steps=1))

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("wmcomponents.training.loop.save_checkpoint", full)
    ran = wmc(*train_arguments(data, tmp_path, steps=3))
    assert ran.code == 1 and "No space left on device" in ran.err
    assert "What was saved before is whole. Make room, then go on: wmc train" in ran.err
    monkeypatch.undo()
    assert wmc(*train_arguments(data, tmp_path, steps=3)).result["resumed_at"] == 1


@pytest.mark.parametrize("command", ["train", "eval", "dream", "demo"])
def test_a_place_that_cannot_be_written_to_is_found_before_the_work(data, model, tmp_path, monkeypatch, command):
    monkeypatch.setattr(Trainer, "train", None)
    file = tmp_path / "file"
    file.touch()
    arguments = {
        "train": train_arguments(data, file / "run"),
        "eval": ["eval", "--model", model, "--data", data, "--horizon", 6, "--out", file / "report"],
        "dream": ["dream", "--model", model, "--out", file / "dream.gif"],
        "demo": ["demo", "--out", file / "demo"],
    }[command]
    ran = wmc(*arguments)
    assert ran.code == 1 and "nothing can be written to" in ran.err and "choose another place" in ran.err


def test_a_film_is_a_file(model, tmp_path):
    (tmp_path / "dream.gif").mkdir()
    ran = wmc("dream", "--model", model, "--out", tmp_path / "dream.gif")
    assert ran.code == 2 and "--out is a file" in ran.err


DEMO = [
    "--real-steps", 200, "--rounds", 2, "--updates", 3, "--dream-steps", 2048,
    "--final-dream-steps", 2048, "--dreams", 32,
    "--sequence-length", 16, "--batch-size", 4, "--episodes", 2,
]  # fmt: skip


class Stops:
    """Asks a demo to stop in the middle of a piece of its work: steps, an update, a rollout, an evaluation."""

    def __init__(self, monkeypatch):
        from stable_baselines3 import PPO

        from wmcomponents.data.episodes import EpisodeStream
        from wmcomponents.evaluation import returns

        self._piece, self._left = None, 0
        pieces = ((EpisodeStream, "take"), (Trainer, "update"), (PPO, "train"), (returns, "evaluate_policy"))
        for owner, name in pieces:
            monkeypatch.setattr(owner, name, self._counted(getattr(owner, name), name))

    def _counted(self, work, name):
        def counted(*args, **kwargs):
            if name == self._piece:
                self._left -= 1
                if self._left == 0:
                    os.kill(os.getpid(), signal.SIGINT)
            return work(*args, **kwargs)

        return counted

    def at(self, piece, number=1):
        """Stop the next run in the so manieth of these; ``None`` lets it end."""
        self._piece, self._left = piece, number


STOPS = [
    (("take", 3), 1, "collect"),
    (("update", 2), 1, "fit"),
    (("train", 1), 1, "learn"),
    (("take", 2), 2, "collect"),
    (("train", 1), 2, "learn"),
    (("evaluate_policy", 1), 3, "collect"),
]
"""Where a demo is stopped, in one run after another, and the round and phase that it is in then."""


def written(out):
    """What a demo wrote, but for the times at which an agent's episodes ended."""
    files = {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
    return {**files, "agent.zip": learnt(out / "agent.zip")}


@pytest.mark.parametrize("view", ["decoded", "latent"])
def test_a_demo_stopped_in_every_phase_ends_as_one_that_was_not(tmp_path, monkeypatch, view):
    for package in ("stable_baselines3", "matplotlib", "pygame"):
        pytest.importorskip(package)
    monkeypatch.setattr("wmcomponents.evaluation.report.dream_report", lambda *_, **__: {})
    monkeypatch.setattr("wmcomponents.cli.demo_steps.STEPS_AT_A_TIME", 20)
    monkeypatch.setattr("wmcomponents.cli.demo_rounds.POOL", 64)
    stops, out = Stops(monkeypatch), tmp_path / "stopped"
    demo = lambda out: wmc("demo", "--out", out, *DEMO, "--view", view)  # noqa: E731
    whole = demo(tmp_path / "whole")
    assert whole.code == 0, whole.err
    for stop, number, phase in STOPS:
        stops.at(*stop)
        ran = demo(out)
        assert ran.code == 130 and "Go on where it stopped: wmc demo" in ran.err, ran.err
        state = json.loads((out / "unfinished" / "demo.json").read_text())["state"]
        assert (state["round"] + 1, state["phase"]) == (number, phase)
    refused = wmc("demo", "--out", out, *DEMO, "--view", view, "--seed", 3)
    assert refused.code == 2 and "unfinished demo with seed 0 (now 3)" in refused.err
    stops.at(None)
    ran = demo(out)
    assert ran.code == 0 and "going on in round 2 of 2, with 200 real steps" in ran.err
    same = [key for key in whole.result if key not in ("seconds", "files")]
    assert {key: ran.result[key] for key in same} == {key: whole.result[key] for key in same}
    assert written(out) == written(tmp_path / "whole")


def test_a_state_that_is_none_is_refused(tmp_path):
    from wmcomponents.cli.errors import UsageError

    folder = demo_state.DemoFolder(tmp_path, {"seed": 0})
    folder.save()
    assert demo_state.DemoFolder(tmp_path, {"seed": 0}).is_begun
    for text in ("{", "[]", '{"config": {"seed": 0}, "state": {"round": "1"}}', '{"config": {}, "state": {}}'):
        (tmp_path / "unfinished" / "demo.json").write_text(text)
        with pytest.raises(UsageError, match="demo.json is damaged .*: remove it to begin anew"):
            demo_state.DemoFolder(tmp_path, {"seed": 0})


def test_a_demo_that_would_leave_a_stage_untrained_is_refused(tmp_path):
    small = ["--updates", 10, "--rounds", 2, "--real-steps", 100]
    ran = wmc("demo", "--family", "WorldModels", "--out", tmp_path, *small)
    assert ran.code == 2 and "--updates times --rounds, 20 would leave the memory untrained" in ran.err


def test_a_demo_leaves_alone_what_it_did_not_write(tmp_path):
    (tmp_path / "checkpoint.safetensors").touch()
    demo_state.DemoFolder(tmp_path, {}).finish()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"]
