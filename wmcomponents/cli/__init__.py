"""The `wmc` command: collect, train, dream, evaluate, and the whole story as a demo.

Nothing heavy is imported before the arguments are understood, so that help comes at once.
"""

import errno
import importlib
import json
import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NamedTuple

from wmcomponents._extras import MissingExtraError, require
from wmcomponents._interruption import Interrupted, postponed, raising
from wmcomponents.cli.console import Outcome, processes, rank
from wmcomponents.cli.errors import UsageError, in_one_process, meant
from wmcomponents.cli.help import EXAMPLES, SUMMARIES, command_help, overview


class Command(NamedTuple):
    """Where a subcommand lives.

    Attributes:
        module: has a function ``run(config)`` that returns what is printed as JSON, or ``None``; or an ``Outcome``,
            which has an exit code too.
        config_module: has the class of its arguments.
        config: the name of that class.
        goes_on: the same command goes on where it was interrupted.
        is_positional: what has no default is given by its place, not by its name.
    """

    module: str
    config_module: str
    config: str
    goes_on: bool = False
    is_positional: bool = False


COMMANDS: dict[str, Command] = {
    "demo": Command("demo_command", "demo_config", "DemoConfig", goes_on=True),
    "collect": Command("collect", "collect", "CollectConfig", goes_on=True),
    "data import": Command("data_import", "data_import", "DataImportConfig", is_positional=True),
    "data info": Command("data_info", "data_info", "DataInfoConfig", is_positional=True),
    "data check": Command("data_check", "data_check", "DataCheckConfig", is_positional=True),
    "train": Command("train", "train", "TrainConfig", goes_on=True),
    "dream": Command("dream", "dream", "DreamConfig"),
    "play": Command("play", "play", "PlayConfig", is_positional=True),
    "eval": Command("evaluate", "evaluate", "EvalConfig"),
    "report": Command("report", "report", "ReportConfig", is_positional=True),
    "compare": Command("compare", "compare", "CompareConfig", is_positional=True),
    "info": Command("info", "info", "InfoConfig"),
    "agents": Command("fitting", "fitting", "AgentsConfig"),
}

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says when a disk, or a share of it, is full."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `wmc`.

    Args:
        argv: the arguments; those of the process if not given.

    Returns:
        The exit code: 0 fine, 1 the run failed (one line on standard error says why; ``--debug`` shows the traceback),
        2 the arguments make no sense, 130 interrupted (143 by SIGTERM: 128 and the signal's number).
    """
    typed = list(sys.argv[1:] if argv is None else argv)
    try:
        shared, arguments = _shared(typed)
    except UsageError as error:
        return _complain(str(error), USAGE)
    if not arguments:
        print(overview(), file=sys.stderr)
        return USAGE
    if arguments[0] == "help" and arguments[1:]:
        arguments = [*arguments[1:], "--help"]
    name, rest = named(arguments)
    if name in COMMANDS:
        return _run(name, rest, shared, shlex.join(["wmc", *(word for word in typed if word != "--debug")]))
    return _no_command(name, rest)


def named(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The command that arguments begin with, a name of one word or of two, and what is left.

    Args:
        arguments: at least one.
    """
    two = " ".join(arguments[:2])
    return (two, [*arguments[2:]]) if two in COMMANDS else (arguments[0], [*arguments[1:]])


def parsed(command: Command, arguments: Sequence[str], **texts: Any) -> Any:
    """The arguments of a command.

    Args:
        command: the command.
        arguments: behind its name.
        **texts: ``prog`` and ``description``, for its help.

    Raises:
        SystemExit: after its help, and if it does not understand them, which is said on standard error.
    """
    tyro = require("tyro", extra="cli")
    config_class = getattr(_module(command.config_module), command.config)
    markers = (tyro.conf.PositionalRequiredArgs,) if command.is_positional else ()
    return tyro.cli(config_class, args=arguments, config=markers, **texts)


def _no_command(name: str, rest: Sequence[str]) -> int:
    """What is asked of `wmc` itself or of a group of commands, or is a mistake."""
    group = [command.split()[1] for command in COMMANDS if command.startswith(f"{name} ")]
    if name in ("-h", "--help", "help") or (group and rest[:1] in (["-h"], ["--help"])):
        print(overview(name if group else None))
        return OK
    if group and not rest:
        print(overview(name), file=sys.stderr)
        return USAGE
    if group:
        there = meant(rest[0], group) or f" There are {', '.join(f'wmc {name} {word}' for word in group)}."
        return _complain(f"there is no command '{name} {rest[0]}'.{there}", USAGE)
    if name in ("-V", "--version"):
        from importlib.metadata import version

        print(version("wmcomponents"))
        return OK
    kind = "option" if name.startswith("-") else "command"
    known = [*COMMANDS, "--help", "--version"]
    there = meant(name, known) or f" There are {', '.join(known)}."
    return _complain(f"there is no {kind} {name!r}.{there}", USAGE)


class Shared(NamedTuple):
    """Options of every command.

    Attributes:
        debug: show the traceback of a failure.
        as_json: print the result as JSON on a terminal too.
        imports: modules to import first, such as those that register environments.
    """

    debug: bool
    as_json: bool
    imports: tuple[str, ...]


def _shared(typed: list[str]) -> tuple[Shared, list[str]]:
    """The options of every command, wherever they stand, and what is left.

    Raises:
        UsageError: if ``--import`` names no module.
    """
    left, imports = [], []
    words = iter(typed)
    for word in words:
        name, equals, value = word.partition("=")
        if name == "--import":
            module = value if equals else next(words, "")
            if not module or module.startswith("-"):
                raise UsageError("--import takes the name of a module, for example: wmc --import my_envs collect ...")
            imports.append(module)
        elif word not in ("--debug", "--json"):
            left.append(word)
    return Shared("--debug" in typed, "--json" in typed, tuple(imports)), left


def _imported(name: str) -> None:
    """Import a module of the user's, from the folder that the command runs in too.

    Raises:
        UsageError: if there is no such module.
    """
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not name.startswith(error.name):
            raise
        raise UsageError(
            f"--import {name}: there is no module {error.name!r}, neither installed nor in {os.getcwd()}. It is named "
            f"as in Python: package.module, without .py."
        ) from error


def _run(name: str, arguments: list[str], shared: Shared, again: str) -> int:
    command = COMMANDS[name]
    try:
        with raising():
            with postponed():  # an import that is broken off says something else than that it was
                require("tyro", extra="cli")
                _module(command.config_module)
                module = _module(command.module)
            if name != "train":
                in_one_process(f"wmc {name}")
            config = parsed(command, arguments, prog=f"wmc {name}", description=command_help(name))
            for each in shared.imports:
                _imported(each)
            result = module.run(config)
    except SystemExit as stop:  # tyro has said everything
        return stop.code if isinstance(stop.code, int) else USAGE
    except (KeyboardInterrupt, Exception) as error:
        if shared.debug and not isinstance(error, (KeyboardInterrupt, UsageError)):
            traceback.print_exc()
        return _failed(error, again, goes_on=command.goes_on)
    result, code = result if isinstance(result, Outcome) else (result, OK)
    # On a terminal the tables on standard error have said it.
    if result is not None and (shared.as_json or not sys.stdout.isatty()):
        sys.stderr.flush()
        print(json.dumps(result), flush=True)
    return code


def _failed(error: BaseException, again: str, *, goes_on: bool) -> int:
    """Say in one line why a command ended, and how it goes on."""
    if isinstance(error, KeyboardInterrupt):
        advice = "Go on where it stopped" if goes_on else "Begin again"
        code = error.exit_code if isinstance(error, Interrupted) else INTERRUPTED
        return _complain(f"interrupted. {advice}: {again}", code)
    if isinstance(error, UsageError):
        return _complain(str(error), USAGE)
    is_full = isinstance(error, OSError) and error.errno in FULL
    advice = f" What was saved before is whole. Make room, then go on: {again}" if is_full and goes_on else ""
    return _complain(_line(error) + advice, FAILED)


def _module(name: str):
    return importlib.import_module(f"wmcomponents.cli.{name}")


def _line(error: BaseException) -> str:
    """The error in one line; its class too where the message alone would not be understood."""
    said = error.args[0] if isinstance(error, KeyError) and error.args else error
    text = " ".join(str(said).split())
    ours = type(error).__module__.startswith("wmcomponents") or isinstance(error, (MissingExtraError, ValueError))
    if not text:
        return f"{type(error).__name__}. Add --debug for the traceback."
    return text if ours else f"{text} ({type(error).__name__}; --debug shows where)"


def _complain(text: str, code: int) -> int:
    several = f" (rank {rank()} of {processes()})" if processes() > 1 else ""
    print(f"wmc{several}: {text}", file=sys.stderr)
    return code


__all__ = ["COMMANDS", "EXAMPLES", "SUMMARIES", "Command", "UsageError", "main"]
