"""A report as one HTML page, which needs nothing beside itself."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from wmcomponents.evaluation.style import COPY, DREAM, INK
from wmcomponents.evaluation.truth.conclusions import SECTION_OF
from wmcomponents.evaluation.truth.document import cell, document, table
from wmcomponents.evaluation.truth.footage import Footage
from wmcomponents.evaluation.truth.layout import measured
from wmcomponents.evaluation.truth.svg import Line, baseline_line, chart, model_line, reliability, scatter

STEPS = "imagined steps since the last real observation"


def page(report: Mapping[str, Any], shown: Footage) -> str:
    """The page of a report.

    Args:
        report: of :func:`truth_report`, or read from its JSON.
        shown: what is shown beside the numbers.
    """
    model, data = report["model"], report["data"]
    title = f"{model['family']} on {data['env'] or 'recorded data'}: the truth about its dreams"
    facts = [
        f"{model['parameters']:,} parameters",
        f"{data['sequences']} real sequences of {data['episodes']} episodes ({data['steps']:,} steps)",
        report["written_by"],
    ]
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="sub">{escape("; ".join(facts))}</p>',
        f'<div class="headline {report["headline"]["verdict"]}">{escape(report["headline"]["says"])}</div>',
        _section("What to conclude", _says(report["conclusions"])),
        _section("Reality beside the dream", _footage(shown, report["prediction"])),
        _prediction(report),
        _outcomes(report),
        _returns(report),
        _actions(report),
        _latent(report),
        _levels(report),
        _section("How it was measured", _method(report)),
    ]
    return document(title, body)


def _section(title: str, *parts: str) -> str:
    there = [part for part in parts if part]
    return f"<section><h2>{escape(title)}</h2>{''.join(there)}</section>" if there else ""


def _paragraph(text: str) -> str:
    return f'<p class="quiet">{escape(text)}</p>'


def _grid(figures: Sequence[str]) -> str:
    there = [one for one in figures if one]
    return f'<div class="grid">{"".join(there)}</div>' if there else ""


def _says(found: Sequence[Mapping[str, str]]) -> str:
    order = {"bad": 0, "caution": 1, "good": 2, "note": 3}
    lines = []
    for one in sorted(found, key=lambda one: order[one["verdict"]]):
        do = f'<div class="do">{escape(one["do"])}</div>' if one["do"] else ""
        tag = f'<span class="tag {one["verdict"]}">{one["verdict"]}</span>'
        lines.append(f"<li>{tag}<div>{escape(one['says'])}{do}</div></li>")
    return f'<ul class="says">{"".join(lines)}</ul>'


def _footage(shown: Footage, prediction: Mapping[str, Any]) -> str:
    parts = []
    if shown.film:
        alt = "a real episode beside the dream that begins in it"
        parts.append(f'<figure><img src="{shown.film}" alt="{alt}"></figure>')
    if shown.strip:
        steps = "".join(f"<span>{'start' if step == 0 else f'step {step}'}</span>" for step in shown.strip_steps)
        rows = f'<span style="color:{INK}">reality</span><span style="color:{DREAM}">dream</span>'
        alt = "frames of reality above those of the dream"
        parts.append(
            f'<figure style="margin-top:14px"><div class="strip"><div class="rows">{rows}</div>'
            f'<img src="{shown.strip}" style="width:100%" alt="{alt}"><span></span><div class="steps">{steps}</div>'
            f"</div></figure>"
        )
    if shown.why_not:
        parts.append(_paragraph(shown.why_not))
    charts = []
    for track in shown.tracks:
        lines = [Line("reality", track["real"], INK, width=2.0)]
        if track["median"] is not None:
            is_many = track["low"] != track["high"]
            lines.append(
                Line(
                    "median dream, 80 % of the dreams" if is_many else "dream",
                    track["median"], DREAM, track["low"] if is_many else None, track["high"] if is_many else None,
                )
            )  # fmt: skip
        first = 1 - shown.burn_in
        shaded = (first, 0) if shown.burn_in > 1 else None
        since = "step since the dream began (grey: seen by the filter)"
        charts.append(
            chart(lines, title=track["label"], x_label=since, y_label="", first=first, shaded=shaded, zero=False)
        )
    if charts:
        parts.append(
            _paragraph(
                "The longest real episode of the data and dreams that begin in it, under the real actions. The dreams "
                "see nothing of reality after the grey part."
            )
        )
    return "".join(parts) + _grid(charts)


def _prediction(report: Mapping[str, Any]) -> str:
    prediction = report["prediction"]
    labels = {
        "normalised MSE": "MSE / variance of the data", "MSE": "MSE of pixels in [0, 1]",
        "error rate": "share of places wrong", "Brier score": "Brier score", "PSNR": "PSNR (dB)",
    }  # fmt: skip
    charts, rows, constant = [], [], []
    for one in prediction["quantities"]:
        if one["constant"]:
            constant.append(one["name"])
            continue
        lines = [model_line(one["model"]), baseline_line(one["copy"], "copy")]
        lines += [baseline_line(one["mean"], "mean")] if one["mean"] is not None else []
        better = "" if one["better"] == "lower" else " (higher is better)"
        name = one["name"] if one["kind"] != "picture" else f"{one['name']}, {one['metric']}"
        charts.append(
            chart(
                lines,
                title=f"{name}{better}",
                x_label=STEPS,
                y_label=str(labels.get(one["metric"], one["metric"])),
                zero=one["metric"] != "PSNR",
                log=None if one["better"] == "lower" and one["kind"] != "termination" else False,
            )
        )
        far = [_steps(one["trusted"][who]) for who in ("copy", "mean")]
        rows.append([name, one["metric"], *(_at(one["model"]["mean"], k) for k in _picked(prediction)), *far])
    picked = [f"k = {k}" for k in _picked(prediction)]
    parts = [
        _paragraph(
            "The filter sees a real prefix; from there the model dreams under the real actions, and every step is held "
            "against what really followed. Shaded: 95 % of resamples of the "
            f"{prediction['bands_over']}."
        ),
        _grid(charts),
        table(["error of the model", "metric", *picked, "better than copy, steps", "than mean, steps"], rows)
        if rows
        else "",
    ]
    if rows:
        parts.append(
            _paragraph(
                "Better than: the longest stretch of steps in which the model is better than the baseline (in brackets "
                "the 95 % band of its last step). Copy repeats the last observation seen; mean is the data's mean, or "
                "most common value."
            )
        )
    if constant:
        parts.append(_paragraph(f"Nothing to predict, since it never changes in these data: {', '.join(constant)}."))
    pictures = report["pictures"]
    if measured(pictures):
        lines = [
            [
                key,
                name,
                one["distance"],
                ", ".join(f"{value:,} {what}" for what, value in one.items() if what != "distance"),
            ]
            for key, found in pictures["distances"].items()
            for name, one in found.items()
        ]
        parts.append(table(["pictures", "by", "distance", "of"], lines))
        parts.append(
            _paragraph(f"Features of: {pictures['networks']}. These distances fall with the number of samples.")
        )
    return _section("How far its dreams can be trusted", *parts)


def _picked(prediction: Mapping[str, Any]) -> list[int]:
    shown, picked = prediction["steps_shown"], [1]
    while picked[-1] * 2 < shown:
        picked.append(picked[-1] * 2)
    return picked if shown == 1 else [*picked, shown]


def _at(values: Sequence[float | None], k: int) -> float | None:
    return values[k - 1] if k <= len(values) else None


def _steps(trusted: Mapping[str, int] | None) -> str:
    if trusted is None:
        return "–"
    if trusted["steps"] == 0:
        return f"never (up to {trusted['high']})" if trusted["high"] else "never"
    return f"{trusted['from']} to {trusted['steps']} ({trusted['low']} to {trusted['high']})"


def _outcomes(report: Mapping[str, Any]) -> str:
    charts, rows = [], []
    reward, end = report["reward"], report["termination"]
    if measured(reward) and reward["spread"]:
        charts.append(reliability(reward["bins"], title="Reward: predicted and real, in tenths of the steps",
                                  unit="reward", bounds=None))  # fmt: skip
        rows += [
            ["reward: correlation with the real one", reward["correlation"]],
            ["reward: explained variance", reward["explained_variance"]],
            ["reward: mean of predicted less real", reward["bias"]],
        ]
    elif measured(reward):
        rows.append(["reward: it never changes in these data; mean of predicted less real", reward["bias"]])
    if measured(end):
        charts.append(reliability(end["bins"], title="Chance of an end: predicted and observed", unit="share",
                                  bounds=(0.0, 1.0)))  # fmt: skip
        seen = end["detection"]
        rows += [
            ["end: expected calibration error", end["calibration_error"]],
            ["end: real ones that were foretold", seen["recall"]],
            ["end: foretold ones that were real", seen["precision"]],
            ["end: real ones within the dreams", seen["real"]],
        ]
    why = [f"{name}: {one['not_measured']}" for name, one in (("Reward", reward), ("End", end)) if not measured(one)]
    return _section(
        "Rewards and ends at their word", _grid(charts), table(["", "value"], rows) if rows else "",
        *(_paragraph(one) for one in why),
    )  # fmt: skip


def _returns(report: Mapping[str, Any]) -> str:
    found, title = report["returns"], "Policies in the dream and in reality"
    if not measured(found):
        return _section(title, _paragraph(f"Not measured: {found['not_measured']}"))
    tested = found["exploitation"]
    points = [
        (one["dream"], one["real"], DREAM, f"policy {i}: {one['dream']} in the dream, {one['real']} in reality")
        for i, one in enumerate(found["points"], 1)
    ]
    winner = (tested["dream"], tested["real"], COPY, "the winner of the search in the dream")
    figure = scatter(
        [*points, winner],
        title="Mean returns",
        x_label="return in the dream",
        y_label="return in reality",
        note="winner of the search in the dream",
    )
    correlation = found["rank_correlation"]
    rows = [
        [
            "rank correlation (95 %)",
            f"{cell(correlation['value'])} ({cell(correlation['low'])} to {cell(correlation['high'])})",
        ],
        ["return in the dream less in reality, on average", found["bias"]],
        ["mean absolute difference", found["mean_absolute_error"]],
        ["lost by choosing the best in the dream", found["regret_of_choosing_in_the_dream"]],
        ["the search's winner: in the dream", tested["dream"]],
        ["the search's winner: in reality", tested["real"]],
        ["exploitation gap (its standard error)", f"{cell(tested['gap'])} ({cell(tested['standard_error'])})"],
        ["best of the others in reality", tested["best_of_the_others_for_real"]],
    ]
    words = (
        f"A search in the dream ({found['generations']} generations of {found['population']}) looks for the linear "
        f"policy that earns most there; what it earns in the dream and not in reality is the exploitation gap. Beside "
        f"it {found['policies']} others, random and half-way to the winner. All read {found['reads']}, and play "
        f"{found['episodes']} episodes of up to {found['steps']} steps in both worlds, from the same kind of start."
    )
    return _section(title, _paragraph(words), _grid([figure, table(["", "value"], rows)]))


def _actions(report: Mapping[str, Any]) -> str:
    found, title = report["actions"], "Do dreams follow the actions?"
    if not measured(found):
        return _section(title, _paragraph(f"Not measured: {found['not_measured']}"))
    charts = []
    for one in found["quantities"]:
        picture = one["metric"] == "PSNR"
        lines = [
            model_line(one["under_the_real"], "under the real actions"),
            model_line(one["under_others"], "under actions of other sequences", COPY),
        ]
        charts.append(
            chart(lines, title=f"{one['name']}{' (higher is better)' if picture else ''}", x_label=STEPS,
                  y_label="PSNR (dB)" if picture else one["metric"], zero=not picture, log=False)
        )  # fmt: skip
    words = (
        "The same dreams with the same noise, once under the real actions and once under those of another sequence. A "
        f"model that ignores its actions shows one curve twice. Of images the difference at step {found['at']} is "
        "delta-PSNR."
    )
    return _section(title, _paragraph(words), _grid(charts))


def _latent(report: Mapping[str, Any]) -> str:
    latent, charts, parts = report["latent"], [], []
    drift, spread, features = latent["drift"], latent["spread"], latent["features"]
    if drift is not None and drift["cosine"]["mean"]:
        charts.append(
            chart([model_line(drift["cosine"])], title="Cosine of dreamt and filtered features (centred)",
                  x_label=STEPS, y_label="cosine", bounds=(min(0.0, *_known(drift["cosine"]["low"])), 1.02))
        )  # fmt: skip
    if spread is not None:
        lines = [
            Line("spread of the dreams", spread["dreams"], DREAM),
            Line("error of their mean", spread["error_of_their_mean"], COPY, dash="2 3"),
        ]
        charts.append(chart(lines, title="Does it know what it does not know?", x_label=STEPS,
                            y_label="in deviations of the data"))  # fmt: skip
    if features is not None:
        names = {
            "channels": "channels", "still_channels": "channels that stand still", "rankme": "RankMe (uncentred)",
            "participation_ratio_of_observations": "participation ratio of the observations",
            "participation_ratio": "participation ratio", "std": "mean deviation", "correlation": "mean |correlation|",
        }  # fmt: skip
        parts.append(table(["features along real sequences", "value"], [[names[key], features[key]] for key in names]))
    rows = []
    for part in latent["parts"]:
        of = "x".join(map(str, part["shape"]))
        if part["kind"] == "symbols":
            used = f"{part['used']} symbols, perplexity {cell(part['perplexity'])}"
        elif part["kind"] == "classes":
            dead = f"{part['dead']} of {part['groups']} groups dead"
            used = f"{cell(part['used'])} of {part['of']} classes on average; {dead}"
        else:
            ratio = cell(part["participation_ratio"])
            used = f"{part['still']} of {part['of']} numbers stand still; participation ratio {ratio}"
        rows.append([part["name"], of, used])
    if rows:
        parts.append(table(["part of the state", "shape", "used"], rows))
    if latent["terms"]:
        terms = [[name.replace("_", " "), value] for name, value in latent["terms"].items()]
        parts.append(table(["its own objective, on these data", "value"], terms))
    return _section("The latent", _grid(charts), _grid(parts))


def _levels(report: Mapping[str, Any]) -> str:
    found, title = report["levels"], "Other levels and goals"
    if not measured(found):
        return _section(title, _paragraph(f"Not measured: {found['not_measured']}"))
    names = list(dict.fromkeys(one["name"] for level in found["levels"] for one in level["quantities"]))
    rows = []
    for level in found["levels"]:
        by_name = {one["name"]: one["relative_error"] for one in level["quantities"]}
        rows.append([level["name"], *(by_name.get(name) for name in names)])
    words = (
        "The error over all steps, in units of the better baseline there: below 1, the model knows something of the "
        "level."
    )
    return _section(title, _paragraph(words), table(["level", *names], rows))


def _method(report: Mapping[str, Any]) -> str:
    settings, prediction, data = report["settings"], report["prediction"], report["data"]
    rows = [
        ["real observations before each dream", settings["burn_in"]],
        ["imagined steps", settings["horizon"]],
        ["dreams of each sequence", settings["samples"]],
        ["real sequences at step 1", prediction["rows"][0]],
        [f"real sequences at step {prediction['steps_shown']}", prediction["rows"][prediction["steps_shown"] - 1]],
        ["observations are", prediction["observations_are"]],
        ["seed", settings["seed"]],
    ]
    rows += [
        [name, str(value)] for name, value in data.items() if name not in ("steps", "episodes", "sequences", "env")
    ]
    where = ", ".join(dict.fromkeys(SECTION_OF.values()))
    text = f"The numbers behind every curve are in report.json beside this page, in the sections {where}."
    return table(["", "value"], rows) + _paragraph(text)


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]
