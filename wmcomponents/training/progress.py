"""Progress of everything that takes longer than a moment: a bar in a terminal, plain lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

REFRESH_SECONDS = 0.5
"""Between two looks at the losses for a bar."""

LINE_SECONDS = 10.0
"""Between two plain lines."""


class Show(Protocol):
    """Shows how far the work is."""

    def __call__(
        self,
        step: int,
        losses: Mapping[str, float],
        stage: str | None = None,
        facts: Mapping[str, float] | None = None,
    ) -> None:
        """Show a step, the losses beside it (what begins with ``loss_``), the stage of the work, and more facts."""


@contextlib.contextmanager
def progress_bar(shown: bool, name: str, done: int, total: int) -> Iterator[Show]:
    """Progress on standard error: a bar in a terminal, a line every few seconds where there is none.

    Args:
        shown: whether to show it at all.
        name: what is being done.
        done: steps already done.
        total: steps in all.

    Yields:
        A function of the step, of the losses to show, and of the stage.
    """
    if not shown:
        yield lambda step, losses, stage=None, facts=None: None
        return
    from rich.console import Console

    console = Console(stderr=True)
    with (
        _bar(console, name, done, total)
        if console.is_terminal or console.is_jupyter
        else _lines(name, done, total) as show
    ):
        yield show


@contextlib.contextmanager
def _bar(console: Any, name: str, done: int, total: int) -> Iterator[Show]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    def whole() -> Column:
        return Column(no_wrap=True)

    # In a narrow terminal the losses wrap; everything before them keeps its width.
    columns = (
        TextColumn("{task.description}", table_column=whole()),
        BarColumn(20, table_column=whole()),
        MofNCompleteColumn(table_column=whole()),
        TimeRemainingColumn(table_column=whole()),
        TextColumn("{task.fields[losses]}", table_column=Column()),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(name, total=total, completed=done, losses="")

        def show(
            step: int,
            losses: Mapping[str, float],
            stage: str | None = None,
            facts: Mapping[str, float] | None = None,
        ) -> None:
            terms = "  ".join(_terms(losses, facts))
            bar.update(task, description=_titled(name, stage), completed=step, losses=terms)

        yield show


@contextlib.contextmanager
def _lines(name: str, done: int, total: int) -> Iterator[Show]:
    begun = printed = time.monotonic()
    last: tuple[int, list[str], str | None] | None = None

    def say(step: int, terms: list[str], stage: str | None) -> None:
        rate = (step - done) / max(time.monotonic() - begun, 1e-9)
        pace = [f"{rate:.3g}/s"] if step > done else []
        if step > done and step < total:
            pace.append(f"{_duration((total - step) / rate)} left")
        words = ", ".join([*pace, *terms])
        print(f"{_titled(name, stage)} {step}/{total}: {words}", file=sys.stderr, flush=True)

    def show(
        step: int, losses: Mapping[str, float], stage: str | None = None, facts: Mapping[str, float] | None = None
    ) -> None:
        nonlocal printed, last
        last = (step, _terms(losses, facts), stage)
        if time.monotonic() >= printed + LINE_SECONDS:
            say(*last)
            printed, last = time.monotonic(), None

    try:
        yield show
    finally:
        if last is not None:
            say(*last)


def _titled(name: str, stage: str | None) -> str:
    return name if stage is None else f"{name} ({stage})"


def _terms(losses: Mapping[str, float], facts: Mapping[str, float] | None) -> list[str]:
    told = [
        f"{key} {value:,}" if isinstance(value, int) else f"{key} {value:.3g}" for key, value in (facts or {}).items()
    ]
    return told + [f"{key[5:]} {value:.3g}" for key, value in losses.items() if key.startswith("loss_")]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
