"""Several reports side by side, on one page."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from wmcomponents._whole import write_whole
from wmcomponents.evaluation.truth.document import document, table
from wmcomponents.evaluation.truth.layout import measured
from wmcomponents.evaluation.truth.svg import Line, baseline_line, chart
from wmcomponents.evaluation.truth.truth_report import FORMAT, SECTIONS

COLORS = ("#2563eb", "#c2410c", "#15803d", "#7c3aed", "#be185d", "#0e7490", "#854d0e", "#475569")


class BadReportError(ValueError):
    """A file is no report, or one of another format."""


def read_report(path: str | Path) -> dict[str, Any]:
    """A report from its folder, or from its JSON.

    Args:
        path: the folder that ``wmc report`` wrote, or the file in it.

    Raises:
        BadReportError: if there is none, or it is damaged or of another format.
    """
    path = Path(path)
    file = path / "report.json" if path.is_dir() else path
    try:
        report = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise BadReportError(
            f"{path} holds no report ({error}); `wmc report MODEL --out {path}` writes one."
        ) from error
    if not isinstance(report, dict) or not set(SECTIONS) <= set(report):
        raise BadReportError(f"{file} is no report of wmc report: it lacks some of {', '.join(SECTIONS)}.")
    if report["format"] != FORMAT:
        raise BadReportError(f"{file} is of format {report['format']}, and this version reads {FORMAT}; write it anew.")
    return report


def compare_reports(reports: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[list[Any]], str]:
    """Lay reports side by side.

    Args:
        reports: of :func:`truth_report`, by the name that each shall have.

    Returns:
        Columns and rows of a table of headline numbers, a column a report; and the page.

    Raises:
        ValueError: for fewer than two.
    """
    if len(reports) < 2:
        raise ValueError(f"compare takes at least two reports; got {len(reports)}.")
    columns, rows = ["", *reports], []
    for label, read in NUMBERS.items():
        values = [read(report) for report in reports.values()]
        if any(value is not None for value in values):
            rows.append([label, *values])
    rows += _quantity_rows(reports)
    envs = dict.fromkeys(str(report["data"]["env"]) for report in reports.values())
    title = f"{len(reports)} reports side by side"
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="sub">{escape(", ".join(envs))}</p>',
    ]
    if len(envs) > 1:
        body.append(
            '<div class="headline caution">These reports are of different environments: their errors have different '
            "units, and only relative numbers compare.</div>"
        )
    body.append(f"<section><h2>In numbers</h2>{table(columns, rows)}</section>")
    body.append(f'<section><h2>Errors by horizon</h2><div class="grid">{"".join(_charts(reports))}</div></section>')
    body.append(f"<section><h2>What each says</h2>{_headlines(reports)}</section>")
    return columns, rows, document(title, body)


def write_comparison(page: str, out: str | Path) -> Path:
    """Write the page of :func:`compare_reports`."""
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, page)
    return out


def _exploitation(name: str) -> Any:
    return lambda report: report["returns"]["exploitation"][name] if measured(report["returns"]) else None


def _of(section: str, name: str) -> Any:
    return lambda report: report[section][name] if measured(report[section]) else None


NUMBERS: dict[str, Any] = {
    "parameters": lambda report: report["model"]["parameters"],
    "steps to trust": lambda report: report["headline"]["trusted_steps"],
    "reward: correlation": _of("reward", "correlation"),
    "end: calibration error": _of("termination", "calibration_error"),
    "returns: rank correlation": lambda report: (
        report["returns"]["rank_correlation"]["value"] if measured(report["returns"]) else None
    ),
    "exploitation gap": _exploitation("gap"),
    "the search's winner, in reality": _exploitation("real"),
    "participation ratio": lambda report: (report["latent"]["features"] or {}).get("participation_ratio"),
    "spread of dreams / error": lambda report: (report["latent"]["spread"] or {}).get("ratio"),
}
"""Of every report one number each, by its label; ``None`` where it was not measured."""


def _quantities(report: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(one["name"], one["metric"]): one for one in report["prediction"]["quantities"] if not one["constant"]}


def _quantity_rows(reports: Mapping[str, Mapping[str, Any]]) -> list[list[Any]]:
    """For each quantity the model's mean error over the steps that all reports show."""
    found = [_quantities(report) for report in reports.values()]
    shown = min(report["prediction"]["steps_shown"] for report in reports.values())
    rows = []
    for key in dict.fromkeys(key for one in found for key in one):
        values = []
        for one in found:
            means = [value for value in one[key]["model"]["mean"][:shown] if value is not None] if key in one else []
            values.append(sum(means) / len(means) if means else None)
        rows.append([f"{key[0]}: {key[1]}, mean of {shown} steps", *values])
    return rows


def _charts(reports: Mapping[str, Mapping[str, Any]]) -> list[str]:
    found = {name: _quantities(report) for name, report in reports.items()}
    charts = []
    for key in dict.fromkeys(key for one in found.values() for key in one):
        holders = {name: one[key] for name, one in found.items() if key in one}
        if len(holders) < 2:
            continue
        colors = dict(zip(reports, [COLORS[i % len(COLORS)] for i in range(len(reports))], strict=True))
        lines = [
            Line(name, one["model"]["mean"], colors[name], one["model"]["low"], one["model"]["high"])
            for name, one in holders.items()
        ]
        first = next(iter(holders.values()))
        lines.append(baseline_line(first["copy"], "copy"))
        lines += [baseline_line(first["mean"], "mean")] if first["mean"] is not None else []
        charts.append(
            chart(
                lines,
                title=f"{key[0]}, {key[1]}",
                x_label="imagined steps",
                y_label=key[1],
                zero=key[1] != "PSNR",
                log=None if first["better"] == "lower" and first["kind"] != "termination" else False,
            )
        )
    return charts or ['<p class="quiet">No quantity stands in more than one of them.</p>']


def _headlines(reports: Mapping[str, Mapping[str, Any]]) -> str:
    lines = []
    for name, report in reports.items():
        told = report["headline"]
        lines.append(
            f'<li><span class="tag {told["verdict"]}">{told["verdict"]}</span><div><b>{escape(name)}</b>: '
            f"{escape(told['says'])}</div></li>"
        )
    return f'<ul class="says">{"".join(lines)}</ul>'


def names_of(paths: Sequence[str | Path], reports: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names to tell reports apart by: the family, or where that is not enough, the folder too.

    Args:
        paths: of the reports.
        reports: themselves.
    """
    families = [str(report["model"]["family"]) for report in reports]
    if len(set(families)) == len(families):
        return families
    places = [Path(path).name if Path(path).is_dir() else Path(path).parent.name for path in paths]
    named = [f"{family} ({place})" for family, place in zip(families, places, strict=True)]
    if len(set(named)) == len(named):
        return named
    return [f"{number}. {name}" for number, name in enumerate(named, 1)]
