"""The page of the command line says what the commands are."""

import dataclasses
import importlib
import json
import re
import shlex

import pytest

from tests.support.pages import ROOT
from tests.support.running import wmc
from wmcomponents.cli import COMMANDS

PAGE = ROOT / "docs" / "reference" / "cli.md"
SECTIONS = dict(re.findall(r"^## wmc ([\w ]+)\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.M | re.S))


def test_every_command_has_its_section():
    assert set(SECTIONS) == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_options_on_the_page_are_those_of_the_command(command):
    where = COMMANDS[command]
    config = getattr(importlib.import_module(f"wmcomponents.cli.{where.config_module}"), where.config)
    known = {
        f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(config) if not _has_a_place(where, field)
    }
    shown = set(re.findall(r"^\| `(--[\w-]+)` \|", SECTIONS[command], re.M))
    assert shown <= known and (shown == known or command == "demo")  # of the demo only the main ones


def _has_a_place(command, field):
    return command.is_positional and field.default is dataclasses.MISSING


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_commands_run_in_order_and_print_what_the_page_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in ("collect", "train", "dream", "eval", "info"):
        lines = re.search(r"```bash\n(.*?)```", SECTIONS[command], re.S)[1].splitlines()
        results = []
        for line in lines:
            ran = wmc(*shlex.split(line.replace("--steps 300", "--steps 30"))[1:])  # it prints as much
            assert ran.code == 0, f"{line}:\n{ran.err}"
            results.append(ran.result)
        shown = re.search(r"```json\n(.*?)```", SECTIONS[command], re.S)
        if shown:
            assert any(set(result) == set(json.loads(shown[1])) for result in results), results
