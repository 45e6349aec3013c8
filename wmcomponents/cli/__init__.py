"""The `wmc` command: collect, train, dream, evaluate, and the whole story as a demo.

Nothing heavy is imported before the arguments are understood, so that help comes at once.
"""

import difflib
import errno
import importlib
import json
import shlex
import sys
import traceback
from collections.abc import Sequence
from typing import NamedTuple

from wmcomponents._extras import MissingExtraError, require
from wmcomponents._interruption import Interrupted, postponed, raising
from wmcomponents.cli.errors import UsageError
from wmcomponents.cli.help import EXAMPLES, SUMMARIES, command_help, overview


class Command(NamedTuple):
    """Where a subcommand lives.

    Attributes:
        module: has a function ``run(config)`` that returns what is printed as JSON, or ``None``.
        config_module: has the class of its arguments.
        config: the name of that class.
        goes_on: the same command goes on where it was interrupted.
    """

    module: str
    config_module: str
    config: str
    goes_on: bool = False


COMMANDS: dict[str, Command] = {
    "demo": Command("demo_command", "demo", "DemoConfig", goes_on=True),
    "collect": Command("collect", "collect", "CollectConfig", goes_on=True),
    "train": Command("train", "train", "TrainConfig", goes_on=True),
    "dream": Command("dream", "dream", "DreamConfig"),
    "eval": Command("evaluate", "evaluate", "EvalConfig"),
    "info": Command("info", "info", "InfoConfig"),
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
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments:
        print(overview(), file=sys.stderr)
        return USAGE
    name, *rest = arguments
    if name in ("-h", "--help", "help"):
        print(overview())
        return OK
    if name == "--version":
        from importlib.metadata import version

        print(version("wmcomponents"))
        return OK
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        meant = f" Did you mean {close[0]!r}?" if close else f" There are {', '.join(COMMANDS)}."
        return _complain(f"there is no command {name!r}.{meant}", USAGE)
    debug = "--debug" in rest
    return _run(name, [argument for argument in rest if argument != "--debug"], debug)


def _run(name: str, arguments: list[str], debug: bool) -> int:
    command = COMMANDS[name]
    again = shlex.join(["wmc", name, *arguments])
    try:
        with raising():
            with postponed():  # an import that is broken off says something else than that it was
                tyro = require("tyro", extra="cli")
                config_class = getattr(_module(command.config_module), command.config)
                module = _module(command.module)
            config = tyro.cli(config_class, prog=f"wmc {name}", description=command_help(name), args=arguments)
            result = module.run(config)
    except SystemExit as stop:  # tyro has said everything
        return stop.code if isinstance(stop.code, int) else USAGE
    except KeyboardInterrupt as stop:
        advice = "Go on where it stopped" if command.goes_on else "Begin again"
        code = stop.exit_code if isinstance(stop, Interrupted) else INTERRUPTED
        return _complain(f"interrupted. {advice}: {again}", code)
    except UsageError as error:
        return _complain(str(error), USAGE)
    except Exception as error:
        if debug:
            traceback.print_exc()
        full = isinstance(error, OSError) and error.errno in FULL
        advice = f" What was saved before is whole. Make room, then go on: {again}" if full and command.goes_on else ""
        return _complain(_line(error) + advice, FAILED)
    if result is not None:
        sys.stderr.flush()
        print(json.dumps(result), flush=True)
    return OK


def _module(name: str):
    return importlib.import_module(f"wmcomponents.cli.{name}")


def _line(error: Exception) -> str:
    """The error in one line; its class too where the message alone would not be understood."""
    said = error.args[0] if isinstance(error, KeyError) and error.args else error
    text = " ".join(str(said).split())
    ours = type(error).__module__.startswith("wmcomponents") or isinstance(error, (MissingExtraError, ValueError))
    if not text:
        return f"{type(error).__name__}. Add --debug for the traceback."
    return text if ours else f"{text} ({type(error).__name__}; --debug shows where)"


def _complain(text: str, code: int) -> int:
    print(f"wmc: {text}", file=sys.stderr)
    return code


__all__ = ["COMMANDS", "EXAMPLES", "SUMMARIES", "Command", "UsageError", "main"]
