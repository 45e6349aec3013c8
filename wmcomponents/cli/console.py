"""Tables and progress on standard error; standard output belongs to the result."""

import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

FILE_WIDTH = 120
"""Of tables that are written to a file or a pipe."""


class Outcome(NamedTuple):
    """What a command returns that says by its exit code what it found.

    Attributes:
        result: printed as JSON.
        code: of the process.
    """

    result: dict[str, Any]
    code: int


def processes() -> int:
    """How many processes `torchrun` has started beside and with this one."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "MASTER_ADDR" in os.environ else 1


def rank() -> int:
    """The number of this process among them, from 0; the first one speaks for all."""
    return int(os.environ.get("RANK", "0")) if processes() > 1 else 0


def say(text: str) -> None:
    """One line on standard error, by the first process."""
    if rank() == 0:
        print(text, file=sys.stderr, flush=True)


def quiet() -> None:
    """Keep TorchRL's notes about its storages out of the way."""
    logging.getLogger("torchrl").setLevel(logging.WARNING)


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table on standard error; the first column is left aligned, the others right."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", padding=(0, 1))
    for place, column in enumerate(columns):
        # In a narrow terminal the first column wraps; numbers stay whole.
        table.add_column(column, justify="right" if place else "left", no_wrap=place > 0)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console = _console()
    console.print(f"\n[bold]{title}[/bold]", highlight=False)
    console.print(table)


def show_facts(title: str, facts: Mapping[str, Any]) -> None:
    """Two columns on standard error: names and what they are."""
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, value in facts.items():
        table.add_row(name, str(value))
    console = _console()
    console.print(f"\n[bold]{title}[/bold]", highlight=False)
    console.print(table)


@contextmanager
def counting(name: str, total: int, *, done: int = 0) -> Iterator[Any]:
    """A progress bar on standard error; yields a function of how many more are done than ``done``."""
    from wmcomponents.training.progress import progress_bar

    with progress_bar(True, name, done, total) as show:

        def advance(count: int) -> None:
            nonlocal done
            done += count
            show(done, {})

        yield advance


def _console() -> Any:
    from rich.console import Console

    return Console(stderr=True, width=None if sys.stderr.isatty() else FILE_WIDTH)


def number(value: float | None) -> str:
    """Three significant digits, two for tiny ones, or a dash where there is no number."""
    if value is None or value != value:
        return "-"
    return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.3g}"
