"""One report of a trained model, in one layout for every family: what was measured, and what follows from it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torchrl.envs import EnvBase

from wmcomponents._arguments import whole
from wmcomponents._version import __version__
from wmcomponents._whole import write_whole
from wmcomponents.evaluation.probe import fit_probe
from wmcomponents.evaluation.truth.actions import SHOWN_AT, actions_section
from wmcomponents.evaluation.truth.conclusions import conclusions, headline
from wmcomponents.evaluation.truth.evidence import Evidence
from wmcomponents.evaluation.truth.footage import Footage, footage
from wmcomponents.evaluation.truth.latents import latent_section
from wmcomponents.evaluation.truth.layout import unmeasured
from wmcomponents.evaluation.truth.levels import levels_section
from wmcomponents.evaluation.truth.outcomes import termination_section
from wmcomponents.evaluation.truth.page import page
from wmcomponents.evaluation.truth.pictures import Backbones
from wmcomponents.evaluation.truth.prediction import predicted
from wmcomponents.evaluation.truth.returns import ReturnSettings, returns_section
from wmcomponents.world_model import WorldModel

FORMAT = 1
"""Of the JSON; it grows when an entry changes its meaning."""

SECTIONS = (
    "format", "written_by", "headline", "conclusions", "model", "data", "settings", "prediction", "pictures", "reward",
    "termination", "latent", "actions", "returns", "levels",
)  # fmt: skip
"""The entries of every report, whatever the family; what was not measured says why, under ``not_measured``."""


@dataclass(frozen=True)
class TruthSettings:
    """How much is measured.

    Attributes:
        burn_in: real observations that the filter sees before a dream.
        horizon: steps to imagine.
        samples: dreams of each real sequence.
        returns: of the comparison of returns.
        film_steps: steps of the film; 0 makes none.
        probe_updates: of the probe, where a model is read through one.
        seed: of everything that is drawn.
    """

    burn_in: int = 5
    horizon: int = 30
    samples: int = 4
    returns: ReturnSettings = field(default_factory=ReturnSettings)
    film_steps: int = 40
    probe_updates: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("burn_in", 1), ("horizon", 1), ("samples", 1), ("film_steps", 0), ("probe_updates", 1)):
            whole(name, getattr(self, name), least, f"a whole number, at least {least}")


def truth_report(
    model: WorldModel,
    evidence: Evidence,
    *,
    settings: TruthSettings | None = None,
    env_id: str | None = None,
    make_env: Callable[[int], EnvBase] | None = None,
    levels: Mapping[str, Evidence] | None = None,
    backbones: Backbones | None = None,
    facts: Mapping[str, Any] | None = None,
    on_section: Callable[[str], Any] | None = None,
) -> tuple[dict[str, Any], Footage]:
    """Measure a trained model against reality, section by section.

    A model that shows no observations but has features is read through a probe (:func:`fit_probe`), which is fitted
    to the first half of the episodes; the report is then of the second.

    Args:
        model: any world model; what it cannot do is not measured, and the report says so.
        evidence: real sequences that the model was not trained on; each at least ``burn_in - 1 + horizon`` long.
        settings: how much is measured.
        env_id: of the environment, for names and pictures.
        make_env: a fresh real environment, batch size ``[]``, whose episodes are cut after so many steps; without one
            no returns are compared.
        levels: real sequences of other levels or goals, by name.
        backbones: networks for LPIPS, FID and FVD.
        facts: what else the report shall say of ``model`` and ``data``, each a dict.
        on_section: told the name of each section before it is measured.

    Returns:
        The report, JSON-able, with the entries :data:`SECTIONS`; and what its page shows beside numbers.

    Raises:
        CapabilityError: if the model neither decodes, nor has features, nor predicts reward or continuation.
        ValueError: if the sequences are too short.
    """
    settings, tell = settings or TruthSettings(), on_section or (lambda name: None)
    given = {name: dict((facts or {}).get(name, {})) for name in ("model", "data")}
    parameters = sum(one.numel() for one in model.parameters())
    capabilities, name, probed = sorted(model.capabilities), type(model).__name__, False
    original, judged = model, evidence
    span: dict[str, int] = {"burn_in": settings.burn_in, "horizon": settings.horizon, "seed": settings.seed}
    if "decode" not in model.capabilities and "features" in model.capabilities:
        tell("probe")
        fitted, judged = evidence.halves()
        reach = {"horizon": settings.horizon - 1, "updates": settings.probe_updates, "seed": settings.seed}
        model, probed = fit_probe(model, fitted.sequences, **reach), True
    tell("prediction")
    found = predicted(
        model, judged, samples=settings.samples, backbones=backbones or Backbones(), probed=probed, **span
    )
    tell("latent")
    report: dict[str, Any] = {
        "format": FORMAT,
        "written_by": f"wmcomponents {__version__}",
        "model": {"family": name, "parameters": parameters, "capabilities": capabilities, **given["model"]},
        "data": {
            "env": env_id,
            "steps": evidence.steps,
            "episodes": judged.number_of_episodes,
            "sequences": len(judged.episodes),
            **given["data"],
        },
        "settings": {**asdict(settings), "returns": settings.returns._asdict()},
        "prediction": found.section,
        "pictures": _pictures(found.pictures, backbones),
        "reward": found.rewards.section(),
        "termination": termination_section(found.errors),
        "latent": latent_section(original, judged, spread=found.spread, **span),
    }
    tell("actions")
    soon = {**span, "horizon": min(settings.horizon, 2 * SHOWN_AT)}
    report["actions"] = actions_section(model, judged, **soon)
    tell("returns")
    report["returns"] = returns_section(original, make_env, judged.sequences, settings.returns, seed=settings.seed)
    tell("levels")
    report["levels"] = levels_section(model, found.errors, levels or {}, **span)
    report["conclusions"] = conclusions(report)
    report["headline"] = headline(report, report["conclusions"])
    tell("pictures")
    shown = footage(model, judged, settings.burn_in, settings.horizon, settings.film_steps, settings.seed, env_id)
    return {section: report[section] for section in SECTIONS}, shown


def write_truth_report(report: Mapping[str, Any], shown: Footage, out: str | Path) -> dict[str, Path]:
    """Write a report as ``report.json`` and ``report.html``, which needs nothing beside itself.

    Args:
        report: of :func:`truth_report`.
        shown: likewise.
        out: the folder; it is made.

    Returns:
        The files, by ``"json"`` and ``"html"``.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    files = {"json": out / "report.json", "html": out / "report.html"}
    write_whole(files["json"], json.dumps(report, indent=1, allow_nan=False) + "\n")
    write_whole(files["html"], page(report, shown))
    return files


def _pictures(found: dict[str, Any], backbones: Backbones | None) -> dict[str, Any]:
    if not found:
        return unmeasured("no observation is an image.")
    if backbones is None or (backbones.fid is None and backbones.fvd is None):
        return unmeasured("FID and FVD need a network of yours: truth_report(backbones=Backbones(fid=..., fvd=...)).")
    return {"networks": backbones.names, "distances": found}
