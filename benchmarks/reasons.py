"""Why a goal is missed, one sentence each, with the figure that shows it; printed only where a goal is missed."""

from fnmatch import fnmatch
from typing import Any

REASONS: list[tuple[str, str, str, str, str]] = []
"""Section, work, config, variant (patterns), and the sentence; the first that fits is printed."""


def reason(section: str, row: dict[str, Any]) -> str:
    """The sentence for a missed goal, filled with the row's own figures.

    Args:
        section: of the report.
        row: the row, see ``measuring.row``.
    """
    found = {"ops": "?", "matmul_share": 0.0, **row.get("profile", {})}
    for where, work, config, variant, sentence in REASONS:
        patterns = ((section, where), (row["work"], work), (row["config"], config), (row["variant"], variant))
        if all(fnmatch(value, pattern) for value, pattern in patterns):
            return sentence.format(**row, **found)
    return "Not explained yet."
