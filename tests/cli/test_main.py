import io
import json
import subprocess
import sys
from dataclasses import dataclass

import pytest

import wmcomponents.cli
from tests.support.running import wmc
from wmcomponents.cli import COMMANDS, EXAMPLES, SUMMARIES, Command, named
from wmcomponents.cli.errors import UsageError
from wmcomponents.world_model import CapabilityError


def test_help_lists_every_command_and_the_way_through():
    ran = wmc("--help")
    assert ran.code == 0
    for name in COMMANDS:
        assert f"  {name} " in ran.out
    assert "wmc collect --env CartPole-v1" in ran.out and "Exit codes" in ran.out


def test_no_command_shows_the_help_and_is_wrong_usage():
    ran = wmc()
    assert ran.code == 2 and ran.out == "" and "usage: wmc" in ran.err


def test_a_group_of_commands_tells_its_own():
    for words, code in ((["data"], 2), (["data", "--help"], 0), (["help", "data"], 0)):
        ran = wmc(*words)
        assert ran.code == code and "  data info " in ran.out + ran.err and "wmc collect" not in ran.out + ran.err
    ran = wmc("data", "inof", "somewhere")
    assert ran.code == 2 and "there is no command 'data inof'. Did you mean 'info'?" in ran.err


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_command_has_examples_and_options(name):
    ran = wmc(*name.split(), "--help")
    assert ran.code == 0
    assert SUMMARIES[name][1:] in ran.out
    for example in EXAMPLES[name]:
        assert example in ran.out
    assert "--" in ran.out and ("default" in ran.out or COMMANDS[name].is_positional)


@pytest.mark.parametrize(
    "example", [line.split("  #")[0] for lines in EXAMPLES.values() for line in lines], ids=lambda line: line[:60]
)
def test_every_example_is_understood(example, monkeypatch):
    name, arguments = named(example.split()[1:])
    seen = []

    class Module:
        @staticmethod
        def run(config):
            seen.append(config)

    real = wmcomponents.cli._module
    monkeypatch.setattr(wmcomponents.cli, "_module", real)
    monkeypatch.setitem(COMMANDS, name, COMMANDS[name]._replace(module="told"))
    monkeypatch.setattr(wmcomponents.cli, "_module", lambda module: Module if module == "told" else real(module))
    ran = wmc(*name.split(), *arguments)
    assert ran.code == 0, ran.err
    assert len(seen) == 1


def test_the_version_is_told():
    assert wmc("--version").out.count(".") == 2


def test_help_of_a_command_by_its_name():
    assert wmc("help", "train").out == wmc("train", "--help").out


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_module_that_registers_environments_is_imported_first(tmp_path, monkeypatch, where):
    name = f"cart_of_my_own_{where}"
    entry = "gymnasium.envs.classic_control.cartpole:CartPoleEnv"
    (tmp_path / f"{name}.py").write_text(
        f"import gymnasium\ngymnasium.register('Mine-{where}-v0', entry_point='{entry}', max_episode_steps=9)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    command = ["collect", "--env", f"Mine-{where}-v0", "--steps", 20, "--out", "data"]
    ran = wmc("--import", name, *command) if where == "before" else wmc(*command, f"--import={name}")
    assert ran.code == 0, ran.err
    assert ran.result["episodes"] == 2


@pytest.mark.parametrize("arguments", [("--import", "no_such_module"), ("--import",), ("--import", "--steps")])
def test_an_import_that_is_none_is_wrong_usage(arguments):
    ran = wmc("info", *arguments)
    assert ran.code == 2 and "--import" in ran.err and ran.err.count("\n") == 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("flags", "printed"), [((), ""), (("--json",), '{"seen": true}\n')])
def test_a_terminal_shows_json_only_when_asked(monkeypatch, flags, printed):
    class Module:
        Config = Nothing

        @staticmethod
        def run(config):
            return {"seen": True}

    monkeypatch.setitem(COMMANDS, "info", Command("telling", "telling", "Config"))
    monkeypatch.setattr(wmcomponents.cli, "_module", lambda name: Module)
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert wmcomponents.cli.main(["info", *flags]) == 0
    assert sys.stdout.getvalue() == printed


@pytest.mark.parametrize(("typed", "meant"), [("dreem", "'dream'"), ("xyzzy", "demo, collect"), ("--hlp", "'--help'")])
def test_an_unknown_command_is_wrong_usage(typed, meant):
    ran = wmc(typed)
    assert ran.code == 2 and meant in ran.err and ran.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["collect"], ["collect", "--steps", "many"], ["info", "--colour", "red"]])
def test_options_that_make_no_sense_are_wrong_usage(arguments):
    ran = wmc(*arguments)
    assert ran.code == 2 and ran.out == ""


@dataclass(frozen=True)
class Nothing:
    """No arguments."""


def failing(monkeypatch, error):
    class Module:
        Config = Nothing

        @staticmethod
        def run(config):
            raise error

    monkeypatch.setitem(COMMANDS, "info", Command("failing", "failing", "Config"))
    monkeypatch.setattr(wmcomponents.cli, "_module", lambda name: Module)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UsageError("--steps is at least 1; got 0."), 2, "wmc: --steps is at least 1; got 0.\n"),
        (ValueError("two\nlines"), 1, "wmc: two lines\n"),
        (CapabilityError("no decoder"), 1, "wmc: no decoder\n"),
        (KeyError("action"), 1, "wmc: action (KeyError; --debug shows where)\n"),
        (RuntimeError(), 1, "wmc: RuntimeError. Add --debug for the traceback.\n"),
        (KeyboardInterrupt(), 130, "wmc: interrupted. Begin again: wmc info\n"),
        (OSError(28, "No space left"), 1, "wmc: [Errno 28] No space left (OSError; --debug shows where)\n"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_a_failure_is_one_line_and_a_code(monkeypatch, error, code, said):
    failing(monkeypatch, error)
    ran = wmc("info")
    assert (ran.code, ran.out, ran.err) == (code, "", said)


def test_debug_shows_the_traceback(monkeypatch):
    failing(monkeypatch, RuntimeError("broken"))
    ran = wmc("info", "--debug")
    assert ran.code == 1 and "Traceback" in ran.err and ran.err.endswith("--debug shows where)\n")


def test_a_missing_extra_names_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tyro", None)
    ran = wmc("info")
    assert ran.code == 1 and "pip install 'wmcomponents[cli]'" in ran.err


LIGHT = {
    "no command": [],
    "help": ["--help"],
    "the version": ["--version"],
    "a mistyped command": ["tarin"],
    "a mistyped option": ["train", "--famly", "DreamerV3"],
    "a mistyped family": ["train", "--family", "Dreamer3", "--data", "nowhere", "--out", "new"],
    "a mistyped preset": ["train", "--preset", "tinny", "--data", "nowhere", "--out", "new"],
    "data from nowhere": ["train", "--data", "nowhere", "--out", "new"],
    "a model from nowhere": ["dream", "--model", "nowhere"],
    "a report on nothing": ["eval", "--model", "nowhere", "--data", "nowhere"],
    "facts about nothing": ["info", "--model", "nowhere"],
    "a group of commands": ["data"],
    "data that are not there": ["data", "info", "nowhere"],
    **{f"help of {name}": [*name.split(), "--help"] for name in COMMANDS},
}
HEAVY = ("torch", "torchrl", "tensordict", "numpy", "gymnasium", "matplotlib", "PIL", "stable_baselines3", "imageio")


@pytest.fixture(scope="module")
def imported_by(tmp_path_factory) -> dict[str, list[str]]:
    """The heavy modules that each command line imports, each in a fork of a fresh interpreter."""
    code = f"""
import contextlib, io, json, os, sys
from wmcomponents.cli import main
for name, words in {LIGHT!r}.items():
    sys.stdout.flush()
    if os.fork() == 0:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            main(words)
        print(json.dumps([name, [module for module in {HEAVY!r} if module in sys.modules]]), flush=True)
        os._exit(0)
    os.wait()
"""
    cwd = tmp_path_factory.mktemp("empty")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=cwd)
    return dict(json.loads(line) for line in done.stdout.splitlines())


@pytest.mark.parametrize("line", LIGHT)
def test_help_and_a_wrong_name_wait_for_no_heavy_import(imported_by, line):
    assert imported_by[line] == []
