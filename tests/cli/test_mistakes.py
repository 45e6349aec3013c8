"""What a newcomer types wrong, and what each mistake answers: what was expected, what came, what to do."""

from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.running import wmc


class Places(NamedTuple):
    """What lies on the disk when the mistake is made."""

    data: Path
    other: Path
    run: Path
    file: Path
    full: Path
    new: Path


@pytest.fixture(scope="session")
def other(tmp_path_factory) -> Path:
    """Some steps of another environment."""
    path = tmp_path_factory.mktemp("wmc") / "pendulum"
    ran = wmc("collect", "--env", "Pendulum-v1", "--steps", 60, "--out", path)
    assert ran.code == 0, ran.err
    return path


@pytest.fixture
def places(data, other, model, tmp_path, monkeypatch) -> Places:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "work.txt").write_text("work")
    (tmp_path / "broken.zip").write_text("no archive")
    return Places(data, other, model.parent, tmp_path / "notes.txt", tmp_path / "full", tmp_path / "new")


CARTPOLE = ["collect", "--env", "CartPole-v1", "--out", "{new}"]
TRAIN = ["train", "--data", "{data}", "--out", "{new}"]
DREAM = ["dream", "--model", "{run}/model", "--out", "{new}.gif"]
EVAL = ["eval", "--model", "{run}/model", "--data", "{data}", "--horizon", "4"]
FAILED, USAGE = 1, 2

# What is typed, the exit code, and what the answer must hold: what was expected, what came, what to do.
MISTAKES: dict[str, tuple[list[str], int, list[str]]] = {
    # the command itself
    "a mistyped command": (["colect"], USAGE, ["'colect'", "Did you mean 'collect'"]),
    "a command in capitals": (["Train"], USAGE, ["'Train'", "Did you mean 'train'"]),
    "a mistyped option for help": (["--hlp"], USAGE, ["'--hlp'", "Did you mean '--help'"]),
    "help of nothing": (["help", "trian"], USAGE, ["'trian'", "Did you mean 'train'"]),
    "a mistyped option": ([*CARTPOLE, "--step", "10"], USAGE, ["--step", "--steps"]),
    "one dash": (["collect", "-env", "CartPole-v1", "--out", "{new}"], USAGE, ["-env", "--env"]),
    "an id without its option": (["collect", "CartPole-v1"], USAGE, ["CartPole-v1", "--env", "--out"]),
    "nowhere to write": (["collect", "--env", "CartPole-v1"], USAGE, ["--out", "Folder to write"]),
    "no environment": (["collect", "--out", "{new}"], USAGE, ["--env", "Id of the real environment"]),
    "nothing to learn from": (["train", "--out", "{new}"], USAGE, ["--data", "Data folders"]),
    "nothing to judge by": (["eval", "--model", "{run}/model"], USAGE, ["--data"]),
    "steps in words": ([*CARTPOLE, "--steps", "10k"], USAGE, ["--steps", "10k", "INT"]),
    "steps as a power": ([*CARTPOLE, "--steps", "1e4"], USAGE, ["--steps", "1e4", "INT"]),
    "no steps": ([*CARTPOLE, "--steps", "0"], USAGE, ["--steps", "at least 1", "got 0"]),
    "steps back": ([*CARTPOLE, "--steps", "-5"], USAGE, ["--steps", "at least 1", "got -5"]),
    "a seed in words": ([*CARTPOLE, "--seed", "x"], USAGE, ["--seed", "'x'"]),
    "a seed below zero": ([*CARTPOLE, "--seed", "-1"], USAGE, ["--seed", "at least 0", "got -1"]),
    "a probability of two": ([*CARTPOLE, "--repeat-probability", "2"], USAGE, ["in [0, 1]", "2.0"]),
    "no image": ([*CARTPOLE, "--image-size", "0"], USAGE, ["--image-size", "at least 1"]),
    "no copies": ([*CARTPOLE, "--num-envs", "0"], USAGE, ["--num-envs", "at least 1"]),
    "a module that there is not": (["info", "--import", "my_envs"], USAGE, ["my_envs", "no module", "without .py"]),
    # environments
    "a mistyped id": (["collect", "--env", "CartPol-v1", "--out", "{new}"], FAILED, ["Did you mean 'CartPole-v1'"]),
    "an id without its version": (["collect", "--env", "CartPole", "--out", "{new}"], FAILED, ["'CartPole-v1'"]),
    "an Atari game by its name": (
        ["collect", "--env", "ALE/Pongg-v5", "--out", "{new}"],
        FAILED,
        ["Did you mean 'ALE/Pong-v5'", "register"],
    ),
    "a mistyped task": (
        ["collect", "--env", "dm_control/cartpole-swing", "--out", "{new}"],
        FAILED,
        ["'dm_control/cartpole-swingup'"],
    ),
    "a space that cannot be modelled": (
        ["collect", "--env", "Blackjack-v1", "--out", "{new}"],
        FAILED,
        ["Tuple", "FlattenObservation"],
    ),
    # policies
    "a mistyped policy": ([*CARTPOLE, "--policy", "randm"], USAGE, ["'random'", ".zip", "'randm'"]),
    "an agent from nowhere": ([*CARTPOLE, "--policy", "nobody.zip"], FAILED, ["no agent at nobody.zip", "agent.save"]),
    "a broken agent": ([*CARTPOLE, "--policy", "broken.zip"], FAILED, ["not saved by Stable-Baselines3"]),
    # places
    "a folder that is full": (["collect", "--env", "CartPole-v1", "--out", "{full}"], USAGE, ["{full}", "--out"]),
    "a file for a folder": (["collect", "--env", "CartPole-v1", "--out", "{file}"], USAGE, ["{file}", "--out"]),
    "a folder below a file": (
        ["collect", "--env", "CartPole-v1", "--out", "{file}/x"],
        FAILED,
        ["{file}", "choose another"],
    ),
    "a run in a file": (["train", "--data", "{data}", "--out", "{file}"], FAILED, ["{file}", "choose another"]),
    "a report in a file": ([*EVAL, "--out", "{file}"], FAILED, ["{file}", "choose another"]),
    "a film of another kind": (
        ["dream", "--model", "{run}/model", "--out", "dream.jpg"],
        USAGE,
        [".gif", "'dream.jpg'"],
    ),
    "data from nowhere": (
        ["train", "--data", "nowhere", "--out", "{new}"],
        FAILED,
        ["nowhere", "no data folder", "wmc collect"],
    ),
    "a model for data": (["train", "--data", "{run}/model", "--out", "{new}"], FAILED, ["no data folder"]),
    "a file for data": (["train", "--data", "{file}", "--out", "{new}"], FAILED, ["no data folder"]),
    "data of two kinds": (
        ["train", "--data", "{data}", "{other}", "--out", "{new}"],
        FAILED,
        ["CartPole-v1", "Pendulum-v1", "different kinds", "one environment"],
    ),
    # training
    "a mistyped family": ([*TRAIN, "--family", "DreamerV4"], USAGE, ["'DreamerV4'", "Did you mean 'DreamerV3'"]),
    "a family in small letters": ([*TRAIN, "--family", "td-mpc2"], USAGE, ["Did you mean 'TDMPC2'"]),
    "a mistyped preset": ([*TRAIN, "--preset", "tinny"], USAGE, ["tiny, size1m", "Did you mean 'tiny'"]),
    "a change that there is not": ([*TRAIN, "--changes", "detr=32"], USAGE, ["detr", "Did you mean 'deter'"]),
    "a change in words": ([*TRAIN, "--changes", "units=abc"], USAGE, ["units", "whole number", "'abc'"]),
    "a change below zero": ([*TRAIN, "--changes", "units=-1"], USAGE, ["units=-1", "at least 0"]),
    "a change without a value": ([*TRAIN, "--changes", "units:32"], USAGE, ["name=value", "'units:32'"]),
    "no rate": ([*TRAIN, "--lr", "0"], USAGE, ["--lr", "positive"]),
    "a rate that is no number": ([*TRAIN, "--lr", "nan"], USAGE, ["--lr", "positive", "nan"]),
    "a device that torch does not know": ([*TRAIN, "--device", "gpu0"], USAGE, ["--device", "cpu", "'gpu0'"]),
    "no threads": ([*TRAIN, "--threads", "-1"], USAGE, ["--threads", "at least 0", "-1"]),
    "an unknown logger": ([*TRAIN, "--logger", "wandb"], USAGE, ["'wandb'", "tensorboard"]),
    "sequences longer than the data": (
        [*TRAIN, "--sequence-length", "5000"],
        FAILED,
        ["300 steps in all", "5000", "Collect more"],
    ),
    "a run with other arguments": (
        ["train", "--data", "{data}", "--out", "{run}", "--batch-size", "5"],
        USAGE,
        ["batch_size 4 (now 5)", "choose another --out"],
    ),
    "a run among the data": (
        ["train", "--data", "{data}", "--out", "{data}"],
        USAGE,
        ["{data}", "data", "choose another --out"],
    ),
    "a model of images on vectors": (
        [*TRAIN, "--family", "IRIS"],
        FAILED,
        ["one square uint8 image", "from_pixels"],
    ),
    # dreams and reports
    "a model from nowhere": (["dream", "--model", "nowhere"], FAILED, ["nowhere", "no such folder"]),
    "a model from the Hub": (["dream", "--model", "someone/dreamer"], FAILED, ["no such folder"]),
    "a run for a model": (["dream", "--model", "{run}"], FAILED, ["whose model is {run}/model"]),
    "data for a model": (["dream", "--model", "{data}"], FAILED, ["folder of data", "wmc train"]),
    "a file for a model": (["info", "--model", "{file}"], FAILED, ["it is no folder", "save_pretrained"]),
    "no rows": (["info", "--model", "{run}/model", "--rows", "0"], USAGE, ["--rows", "at least 1"]),
    "no frames a second": ([*DREAM, "--fps", "0"], USAGE, ["--fps", "positive"]),
    "a renderer that there is not": ([*DREAM, "--env", "CartPol-v1"], USAGE, ["Did you mean 'CartPole-v1'"]),
    "a dream beside other data": (
        [*DREAM, "--compare", "{other}", "--steps", "9"],
        FAILED,
        ["observes", "Pendulum-v1", "[3]"],
    ),
    "a dream longer than the data": (
        [*DREAM, "--compare", "{data}", "--steps", "5000"],
        FAILED,
        ["300 steps in all", "Collect more"],
    ),
    "a report on other data": (
        ["eval", "--model", "{run}/model", "--data", "{other}"],
        FAILED,
        ["observes", "Pendulum-v1", "[3]"],
    ),
    "a report of an agent from nowhere": ([*EVAL, "--agent", "nobody.zip"], FAILED, ["no agent at nobody.zip"]),
    # the demo
    "a demo of a mistyped id": (["demo", "--env", "CartPol-v1"], FAILED, ["Did you mean 'CartPole-v1'"]),
    "a demo of a mistyped family": (["demo", "--family", "Dreamr"], USAGE, ["Did you mean"]),
    "a demo in a file": (["demo", "--out", "{file}"], FAILED, ["{file}", "choose another"]),
    "a demo of a mistyped view": (["demo", "--view", "latnt"], USAGE, ["latnt", "latent"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_what_was_expected_what_came_and_what_to_do(places, mistake):
    typed, code, words = MISTAKES[mistake]
    ran = wmc(*(word.format_map(places._asdict()) for word in typed))
    said = " ".join(word for word in ran.err.split() if word.strip("─│╭╮╰╯-"))
    assert (ran.code, ran.out) == (code, ""), ran.err
    for word in words:
        assert word.format_map(places._asdict()) in said
    for foreign in ("Traceback", "has no attribute", "Error; --debug", "placeholder"):
        assert foreign not in said
    assert not places.new.exists() and not places.new.with_suffix(".gif").exists()
