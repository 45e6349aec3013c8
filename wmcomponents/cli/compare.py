"""`wmc compare`: several reports side by side."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wmcomponents.cli.console import number, say, show_table
from wmcomponents.cli.errors import UsageError


@dataclass(frozen=True)
class CompareConfig:
    """Arguments of `wmc compare`."""

    reports: tuple[Path, ...]
    """Folders that wmc report wrote, or their report.json; at least two."""
    out: Path = Path("comparison.html")
    """Page to write."""


def run(config: CompareConfig) -> dict[str, Any]:
    """Read, lay side by side, and write."""
    if len(config.reports) < 2:
        raise UsageError(f"name at least two reports; got {len(config.reports)}.")
    if config.out.suffix != ".html":
        raise UsageError(f"--out is an .html file; got {str(config.out)!r}.")
    from wmcomponents.evaluation.truth.compared import compare_reports, names_of, read_report, write_comparison

    reports = [read_report(path) for path in config.reports]
    named = dict(zip(names_of(config.reports, reports), reports, strict=True))
    columns, rows, page = compare_reports(named)
    show_table("Reports side by side", columns, [[row[0], *(number(value) for value in row[1:])] for row in rows])
    write_comparison(page, config.out)
    say(f"wrote {config.out}")
    return {"reports": list(named), "numbers": {row[0]: row[1:] for row in rows}, "out": str(config.out)}
