"""What the pages of reports are made of: the document, its style, and tables."""

from collections.abc import Sequence
from html import escape
from typing import Any

CSS = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #f6f8fa; color: #1f2933; }
body { font: 15px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 1000px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 27px; line-height: 1.25; margin: 0 0 4px; }
h2 { font-size: 19px; margin: 0 0 6px; }
p { margin: 6px 0; max-width: 78ch; }
.quiet { color: #52606d; }
.sub { color: #52606d; margin-bottom: 18px; }
section, .headline { background: #fff; border: 1px solid #e4e9ee; border-radius: 10px; }
section, .headline { padding: 18px 20px; margin: 0 0 16px; }
.headline { border-left: 6px solid #2563eb; font-size: 17px; }
.headline.good { border-left-color: #15803d; } .headline.bad { border-left-color: #c81e1e; }
.headline.caution { border-left-color: #d97706; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 400px), 1fr)); }
.grid { gap: 14px 22px; margin-top: 10px; }
figure { margin: 0; min-width: 0; }
figcaption { font-weight: 600; font-size: 13.5px; }
figure > svg { width: 100%; height: auto; display: block; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 14px; font-size: 12px; color: #52606d; }
.legend span { display: inline-flex; align-items: center; gap: 5px; }
.says { list-style: none; margin: 8px 0 0; padding: 0; }
.says li { display: grid; grid-template-columns: 74px 1fr; gap: 10px; padding: 7px 0; border-top: 1px solid #eef2f6; }
.says li:first-child { border-top: 0; }
.tag { font-size: 12px; font-weight: 600; border-radius: 5px; padding: 1px 0; text-align: center; height: 21px; }
.tag.good { background: #dcfce7; color: #14532d; } .tag.bad { background: #fee2e2; color: #7f1d1d; }
.tag.caution { background: #fef3c7; color: #78350f; } .tag.note { background: #eef2f6; color: #3e4c59; }
.do { color: #3e4c59; } .do::before { content: "What to do: "; font-weight: 600; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13.5px; margin: 8px 0; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 3px 12px 3px 0; border-bottom: 1px solid #eef2f6; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; }
th { color: #52606d; font-weight: 600; }
td.words { white-space: normal; text-align: left; min-width: 200px; }
img { max-width: 100%; height: auto; border-radius: 6px; display: block; }
.strip { display: grid; grid-template-columns: 62px 1fr; gap: 0 8px; font-size: 12.5px; color: #52606d; }
.strip .rows { display: flex; flex-direction: column; justify-content: space-around; font-weight: 600; }
.strip .steps { display: flex; } .strip .steps span { flex: 1; text-align: center; }
footer { color: #52606d; font-size: 13px; }
@media print { body { background: #fff; } section { break-inside: avoid; } }
"""

LONG = 28
"""Letters of a cell that is text, and may be broken."""


def document(title: str, body: Sequence[str]) -> str:
    """A whole HTML document in the pages' style.

    Args:
        title: of the window.
        body: parts, as HTML.
    """
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(title)}</title>'
        f"<style>{CSS}</style></head><body><main>\n"
        + "\n".join(part for part in body if part)
        + "\n</main></body></html>\n"
    )


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table; its first column is left aligned.

    Args:
        columns: their heads.
        rows: cells; numbers are shortened, ``None`` is a dash.
    """
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    lines = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'


def _cell(value: Any) -> str:
    text = cell(value)
    words = ' class="words"' if len(text) > LONG else ""
    return f"<td{words}>{escape(text)}</td>"


def cell(value: Any) -> str:
    """A value as it stands in a table."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
