"""Runs `wmc` inside the test's own process."""

import contextlib
import io
import json
from typing import Any, NamedTuple

from wmcomponents.cli import main


class Ran(NamedTuple):
    """Exit code and what was written."""

    code: int
    out: str
    err: str

    @property
    def result(self) -> dict[str, Any]:
        """The last line on standard output."""
        return json.loads(self.out.strip().splitlines()[-1])


def wmc(*arguments) -> Ran:
    """Run the command with these arguments."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return Ran(code, out.getvalue(), err.getvalue())
