"""What a reader should conclude, by rule: each rule reads one section, and says what to do."""

from collections.abc import Iterator
from typing import Any, Literal

from wmcomponents.evaluation.truth.layout import Section, measured

Verdict = Literal["good", "caution", "bad", "note"]
SECTION_OF = {
    "evidence": "data", "observations": "prediction", "rewards": "prediction", "ends": "termination",
    "doubt": "latent", "latent": "latent", "actions": "actions", "ranking": "returns", "exploitation": "returns",
    "levels": "levels",
}  # fmt: skip
"""By topic of a conclusion: the section that it is read off."""


def conclusions(report: dict[str, Any]) -> list[dict[str, str]]:
    """All conclusions, in the order of the sections.

    Args:
        report: every section by name.

    Returns:
        For each its ``topic``, ``verdict`` (``good``, ``caution``, ``bad``, or ``note`` where nothing is judged),
        ``says``, and ``do``, which is empty where nothing is to be done.
    """
    rules = (_evidence, _observations, _rewards, _ends, _doubt, _latent, _actions, _returns, _levels)
    return [one for rule in rules for one in rule(report)]


def headline(report: dict[str, Any], found: list[dict[str, str]]) -> dict[str, Any]:
    """The page's first words: how many steps to trust, and the worst that was found."""
    steps = trusted_steps(report["prediction"])
    bad = [one["topic"] for one in found if one["verdict"] == "bad"]
    if steps is None:
        says = "This model shows nothing that could be held against reality step by step."
    elif steps == 0:
        says = "Do not act on this model's dreams: a baseline that knows nothing does as well."
    else:
        far = (
            f"all the {_steps(steps)}" if steps >= report["prediction"]["steps_shown"] else f"the first {_steps(steps)}"
        )
        far = "the first step alone" if steps == 1 else far
        says = f"Its dreams know more than both baselines for {far}."
    if "exploitation" in bad:
        says += " Do not optimise a policy in it unguarded: a search finds rewards in it that reality does not pay."
    elif bad:
        says += f" Look first at: {', '.join(dict.fromkeys(bad))}."
    return {"trusted_steps": steps, "verdict": "bad" if bad or steps == 0 else _worst(found), "says": says}


def trusted_steps(prediction: Section) -> int | None:
    """Steps for which the lower end of the band says that a model is better than both baselines, in the worst key.

    Observations count; where there are none, rewards do. ``None`` where nothing that varies was predicted.
    """
    quantities = [one for one in prediction["quantities"] if not one["constant"]]
    for kind in ("observation", "reward"):
        steps = [_sure(one) for one in quantities if one["kind"] == kind]
        if steps:
            return min(steps)
    return None


def _sure(quantity: dict[str, Any]) -> int:
    return min(one["low"] for one in quantity["trusted"].values() if one is not None)


def _worst(found: list[dict[str, str]]) -> str:
    return "caution" if any(one["verdict"] == "caution" for one in found) else "good"


def _says(topic: str, verdict: Verdict, says: str, do: str = "") -> dict[str, str]:
    return {"topic": topic, "verdict": verdict, "says": says, "do": do}


def _evidence(report: dict[str, Any]) -> Iterator[dict[str, str]]:
    data, rows = report["data"], report["prediction"]["rows"]
    if data["episodes"] < 5:
        yield _says(
            "evidence",
            "caution",
            f"All of this rests on {data['episodes']} episodes: the bands are drawn over sequences, which resemble "
            f"each other, and are too narrow.",
            "Collect more episodes.",
        )
    if rows[0] < 30:
        yield _says("evidence", "caution", f"There are {rows[0]} real sequences only.", "Collect more steps.")
    shown, horizon = report["prediction"]["steps_shown"], report["prediction"]["horizon"]
    if shown < horizon:
        yield _says(
            "evidence",
            "note",
            f"Curves end after {shown} of {horizon} steps: by then nearly all real episodes have ended.",
        )


def _observations(report: dict[str, Any]) -> Iterator[dict[str, str]]:
    prediction = report["prediction"]
    quantities = prediction["quantities"]
    if prediction["observations_are"] == "not shown":
        yield _says("observations", "note", "The model shows no observations and has no features to probe.")
    if prediction["observations_are"] == "probed":
        yield _says(
            "observations",
            "note",
            "The model shows no observations: they are read off its features by a small network, fitted to one half of "
            "the data and judged on the other. What the probe cannot read is not thereby unknown to the model.",
        )
    for one in quantities:
        if one["kind"] == "observation":
            yield from _compared("observations", one, prediction["steps_shown"], f"Of {one['name']!r}, dreams")
        if one["kind"] == "moving" and not one["constant"]:
            model, mean = (_average(one[who]["mean"]) for who in ("model", "mean"))
            if model is not None and mean is not None and model >= mean:
                yield _says(
                    "observations",
                    "caution",
                    f"Where something moves in {one['name'].split(',')[0]!r}, the model is wrong as often as the "
                    f"data's mean is (error {_n(model)} beside {_n(mean)}): it draws what stands still.",
                    "Train longer, or with more weight on what moves; look at the film.",
                )


def _compared(topic: str, one: dict[str, Any], shown: int, subject: str) -> Iterator[dict[str, str]]:
    if one["constant"]:
        yield _says(topic, "note", f"{one['name']!r} never changes in these data: there is nothing to predict.")
        return
    copy, mean = one["trusted"]["copy"], one["trusted"]["mean"]
    worse = min((each for each in (copy, mean) if each is not None), key=lambda each: each["steps"])
    rival = "copying the last one" if worse is copy else "the data's mean"
    first = max(each["from"] for each in (copy, mean) if each is not None)
    steps, low, high = worse["steps"], worse["low"], worse["high"]
    late = f" (in the first {_steps(first - 1)} copying or the mean is as good)" if 1 < first <= steps else ""
    if steps == 0 or first > steps:
        yield _says(
            topic,
            "bad",
            f"{subject} are better than both baselines at no step: {rival} is as good.",
            "Train longer, or on more data; check the data with wmc data check.",
        )
    elif low >= shown:
        yield _says(topic, "good", f"{subject} are better than both baselines up to the last of {shown} steps{late}.")
    else:
        yield _says(
            topic,
            "good" if low >= min(5, shown) else "caution",
            f"{subject} are better than both baselines up to step {steps} (95 %: {low} to {high}){late}; from there on "
            f"{rival} is as good.",
            f"Keep dreams to {_steps(max(low, 1))} where this quantity matters.",
        )


def _steps(count: int) -> str:
    return f"{count} {'step' if count == 1 else 'steps'}"


def _rewards(report: dict[str, Any]) -> Iterator[dict[str, str]]:
    for one in report["prediction"]["quantities"]:
        if one["kind"] == "reward":
            yield from _compared("rewards", one, report["prediction"]["steps_shown"], "Predicted rewards")
    found = report["reward"]
    if not measured(found) or not found["spread"]:
        return
    if found["explained_variance"] is not None and found["explained_variance"] <= 0:
        yield _says(
            "rewards",
            "bad",
            f"Over all imagined steps predicted rewards explain nothing of the real ones (correlation "
            f"{_n(found['correlation'])}, explained variance {_n(found['explained_variance'])}).",
            "Do not learn a policy in this dream: it would be paid for something else.",
        )
    if abs(found["bias"]) > 0.25 * found["spread"]:
        over = "too high" if found["bias"] > 0 else "too low"
        yield _says(
            "rewards",
            "caution",
            f"Predicted rewards are {over} by {_n(abs(found['bias']))} on average, where real ones vary by "
            f"{_n(found['spread'])}.",
            "Returns of dreams are not returns of reality; compare policies, not numbers.",
        )


def _ends(report: dict[str, Any]) -> Iterator[dict[str, str]]:
    found = report["termination"]
    if not measured(found):
        yield _says("ends", "note", f"Ends are not judged: {found['not_measured']}")
        return
    seen = found["detection"]
    if not seen["real"]:
        if (seen["foretold"] or 0) > 0.01 * found["steps"]:
            yield _says("ends", "bad", "The model ends episodes that never end in the data.", "Check its end head.")
        else:
            yield _says("ends", "note", "No real episode terminates within these dreams; ends are not judged.")
        return
    error, rate = found["calibration_error"], seen["real"] / max(found["steps"], 1)
    if (seen["recall"] or 0.0) < 0.5:
        yield _says(
            "ends",
            "bad" if (seen["recall"] or 0.0) < 0.2 else "caution",
            f"Dreams live on where reality ends: of {seen['real']} real ends {_percent(seen['recall'])} are foretold "
            f"(chance above one half at that step).",
            "A policy learns to ignore the end; train on more ends, or cut dreams short.",
        )
    elif (seen["precision"] or 0.0) < 0.5:
        yield _says(
            "ends",
            "caution",
            f"Dreams end too soon: of the ends they show {_percent(seen['precision'])} are real.",
            "A policy learns to fear what is safe; train longer.",
        )
    else:
        yield _says(
            "ends",
            "good",
            f"Ends are foretold: {_percent(seen['recall'])} of the real ones, and {_percent(seen['precision'])} of "
            f"those shown are real.",
        )
    if error is not None and error > max(0.05, rate):
        yield _says(
            "ends",
            "caution",
            f"The chance of an end is not to be taken at its word: it is off by {_percent(error)} on average.",
            "Threshold it in place of sampling from it.",
        )


def _doubt(report: dict[str, Any]) -> Iterator[dict[str, str]]:
    spread = report["latent"]["spread"] if measured(report["latent"]) else None
    if spread is None or spread["ratio"] is None:
        return
    ratio = spread["ratio"]
    if ratio < 0.5:
        yield _says(
            "doubt",
            "caution",
            f"Dreams of one start differ by {_n(ratio)} of what their mean is wrong by: the model does not know what "
            f"it does not know.",
            "Do not read the spread of its dreams as its uncertainty; an ensemble shows more.",
        )
    elif ratio > 2.0:
        yield _says(
            "doubt",
            "caution",
            f"Dreams of one start differ {_n(ratio)} times as much as their mean is wrong: they are noisier than the "
            f"world.",
            "Dream with noise='mode', or train longer.",
        )
    else:
        yield _says("doubt", "good", f"The spread of its dreams is {_n(ratio)} of their error: its doubt is honest.")


def _latent(report: dict[str, Any]) -> Iterator[dict[str, str]]:
    latent = report["latent"]
    features = latent["features"]
    if features is not None and features["collapsed"]:
        yield _says(
            "latent",
            "bad",
            f"The features have collapsed: of {features['channels']} channels they vary in "
            f"{_n(features['participation_ratio'])} directions.",
            "Strengthen what keeps them apart (variance, reconstruction, a target network), and train anew.",
        )
    elif features is not None:
        yield _says(
            "latent",
            "good",
            f"The features have not collapsed: of {features['channels']} channels {features['still_channels']} stand "
            f"still; they vary in {_n(features['participation_ratio'])} directions (participation ratio; RankMe "
            f"{_n(features['rankme'])}).",
        )
    kl = latent["terms"].get("kl")
    if kl is not None and kl < 0.05:
        yield _says(
            "latent",
            "caution",
            f"The filter learns {_n(kl)} nats a step from what it sees beyond what it expected: z carries next to "
            f"nothing.",
            "In a deterministic world that is as it should be; otherwise lower the weight of the divergence.",
        )
    for part in latent["parts"]:
        if part["kind"] == "classes" and part["dead"] > part["groups"] / 2:
            yield _says(
                "latent",
                "caution",
                f"{part['dead']} of the {part['groups']} groups of {part['name']!r} always show the same class.",
                "The latent is larger than it need be, or its divergence weighs too much.",
            )


def _actions(report: dict[str, Any]) -> Iterator[dict[str, str]]:
    found = report["actions"]
    if not measured(found):
        return
    for one in found["quantities"]:
        at = min(found["at"], sum(value is not None for value in one["gain"]["mean"]))
        if at == 0:
            continue
        gain, low = one["gain"]["mean"][at - 1], one["gain"]["low"][at - 1]
        picture = one["metric"] == "PSNR"
        size = f"{_n(gain)} dB (delta-PSNR)" if picture else f"{_n(gain)} ({one['metric']})"
        if low is None or low <= 0:
            yield _says(
                "actions",
                "caution",
                f"Other actions lead dreams of {one['name']!r} astray by {size} after {at} steps, which may be chance: "
                f"either the model ignores its actions, or they matter little so soon.",
                "Check that actions are not shifted by one: wmc data check.",
            )
        else:
            yield _says(
                "actions",
                "good",
                f"Dreams of {one['name']!r} follow the actions: under others they are off by {size} more after {at} "
                f"steps.",
            )


def _returns(report: dict[str, Any]) -> Iterator[dict[str, str]]:
    found = report["returns"]
    if not measured(found):
        yield _says("ranking", "note", f"Returns are not compared: {found['not_measured']}")
        return
    correlation = found["rank_correlation"]
    value, low = correlation["value"], correlation["low"]
    spread, chance = found["spread_of_real_returns"], found["standard_error_of_real_returns"]
    if value is None:
        yield _says("ranking", "note", "The policies earn all the same, in the dream or in reality: nothing is ranked.")
    elif value < 0.7 and spread < 2.0 * chance:
        yield _says(
            "ranking",
            "note",
            f"In {found['episodes']} real episodes each, the policies cannot be told apart (their returns vary by "
            f"{_n(spread)}, by chance alone {_n(chance)}): whether the dream ranks them is open.",
            "Report with more --episodes, or a longer --return-steps.",
        )
    else:
        verdict: Verdict = "good" if value >= 0.7 else ("caution" if value >= 0.3 else "bad")
        means = {"good": "as", "caution": "somewhat as", "bad": "not as"}[verdict]
        yield _says(
            "ranking",
            verdict,
            f"The dream ranks {found['policies']} policies {means} reality does (rank correlation {_n(value)}, 95 %: "
            f"{_n(low)} to {_n(correlation['high'])}).",
            "" if verdict == "good" else "Choose between policies by real episodes.",
        )
    tested = found["exploitation"]
    told = (
        f"a search in it finds a policy that earns {_n(tested['dream'])} in the dream and {_n(tested['real'])} in "
        f"reality"
    )
    surplus = tested["gap"] - max(tested["gap_of_the_others"], 0.0)
    if surplus > 2.0 * tested["standard_error"] and tested["gap_in_spreads"] > 1.0:
        yield _says(
            "exploitation",
            "bad",
            f"The model can be exploited: {told}; the others differ by {_n(tested['gap_of_the_others'])}.",
            "Collect real steps with the policy found and train on; penalise disagreement of an ensemble; dream "
            "shorter.",
        )
    else:
        yield _says("exploitation", "good", f"No exploitation was found: {told}.")


def _levels(report: dict[str, Any]) -> Iterator[dict[str, str]]:
    found = report["levels"]
    if not measured(found):
        return
    own, *others = found["levels"]
    here = {one["name"]: one["relative_error"] for one in own["quantities"]}
    for level in others:
        for one in level["quantities"]:
            there, base = one["relative_error"], here.get(one["name"])
            if there is None or base is None or not one["name"].startswith(("observation/", "reward")):
                continue
            name = one["name"].removeprefix("observation/")
            beside = f"{_n(there)} of the better baseline's (at home {_n(base)})"
            words = f"On {level['name']}, the error of {name!r} is {beside}"
            if there >= 1.0:
                yield _says("levels", "bad", f"{words}: nothing carries over.", "Train on more levels.")
            elif there > 1.5 * base:
                yield _says("levels", "caution", f"{words}: part of it carries over.", "Train on more levels.")
            else:
                yield _says("levels", "good", f"{words}: it carries over.")


def _average(values: list[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def _n(value: float | None) -> str:
    return "-" if value is None else (f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}")


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{100 * value:.0f} %"
