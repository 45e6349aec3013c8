"""The progress bar of everything that takes longer than a moment."""

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def progress_bar(shown: bool, name: str, done: int, total: int) -> Iterator[Any]:
    """A progress bar on standard error.

    Args:
        shown: whether to show it at all.
        name: what is being done.
        done: steps already done.
        total: steps in all.

    Yields:
        A function of the step and of the losses to show beside the bar.
    """
    if not shown:
        yield lambda step, losses: None
        return
    from rich.console import Console
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
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=total, completed=done, losses="")

        def show(step: int, losses: dict[str, float]) -> None:
            terms = [
                f"{key.removeprefix('loss_')} {value:.3g}" for key, value in losses.items() if key.startswith("loss_")
            ]
            bar.update(task, completed=step, losses="  ".join(terms))

        yield show
