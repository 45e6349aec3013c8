"""`wmc play` up to where it serves."""

import dataclasses
import json
import re

import pytest

from tests.support.small_dreamer import model as small_dreamer
from wmcomponents.cli import main
from wmcomponents.cli.play import PlayConfig
from wmcomponents.codecs import action_spec, observation_spec
from wmcomponents.data import make_env
from wmcomponents.play import server


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    env, folder = make_env("CartPole-v1"), tmp_path_factory.mktemp("run")
    model = small_dreamer(spec=observation_spec(env), action=action_spec(env))
    state = {key: value.repeat_interleave(3, 0) for key, value in model.initial_state((1,)).items()}
    model.save_pretrained(folder / "model", starts=state)
    facts = {"env": "CartPole-v1", "env_options": {}, "family": "DreamerV3", "preset": "tiny", "steps": 1}
    (folder / "training.json").write_text(json.dumps(facts))
    return folder / "model"


@pytest.fixture
def served(monkeypatch):
    """What was served, in place of serving it."""
    apps = []

    class Served:
        def __init__(self, app):
            apps.append(app)

        def run(self, sockets):
            for one in sockets:
                one.close()

    monkeypatch.setattr(server, "make_uvicorn", Served)
    return apps


def test_it_prints_its_link_and_serves_the_model_beside_its_environment(saved, served, tmp_path, capsys):
    assert main(["play", str(saved), "--out", str(tmp_path / "rec"), "--port", "0", "--seed", "1"]) == 0
    printed = capsys.readouterr()
    link = re.search(r"http://127.0.0.1:\d+/\?token=([\w-]{43})\n", printed.err)
    assert link and (tmp_path / "rec" / ".play-token").read_text().strip() == link[1]
    assert json.loads(printed.out) == {"model": str(saved), "out": str(tmp_path / "rec"), "branches": 1, "steps": 0}
    assert len(served) == 1 and "CartPole-v1 · DreamerV3 is played at" in printed.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "70000"], "below 65536"),
        (["--memory", "0"], "--memory positive"),
        (["--host", "203.0.113.7", "--port", "0"], "cannot be listened on"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(saved, served, tmp_path, capsys, arguments, words):
    assert main(["play", str(saved), "--out", str(tmp_path), "--no-reality", *arguments]) == 2
    assert words in capsys.readouterr().err and not served


def test_an_environment_that_cannot_go_along_is_said_to(saved, served, tmp_path, capsys):
    assert main(["play", str(saved), "--out", str(tmp_path), "--port", "0", "--env", "Pendulum-v1"]) == 0
    assert "Pendulum-v1 does not go along" in capsys.readouterr().err


def test_no_model_is_said_before_anything_is_loaded(served, tmp_path, capsys):
    assert main(["play", str(tmp_path)]) == 1
    assert "model" in capsys.readouterr().err and not served


def test_it_listens_on_this_machine_alone_unless_told_otherwise():
    host = next(field.default for field in dataclasses.fields(PlayConfig) if field.name == "host")
    listener = server.listening(host, 0)
    assert listener.getsockname()[0] == "127.0.0.1"
    listener.close()
