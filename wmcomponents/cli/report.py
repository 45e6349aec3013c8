"""`wmc report`: everything that can be told of a model's dreams, on one page."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wmcomponents._whole import check_place
from wmcomponents.cli.console import number, quiet, say, show_table
from wmcomponents.cli.device import device_of
from wmcomponents.cli.errors import UsageError, at_least, check_folders


@dataclass(frozen=True)
class ReportConfig:
    """Arguments of `wmc report`."""

    model: Path
    """Folder of a saved model."""
    data: tuple[Path, ...] = ()
    """Data folders that the model was not trained on; real steps are played at random if not given."""
    env: str | None = None
    """Id of the real environment, to compare returns in; the one of the data, or of the model's training, if not
    given."""
    out: Path | None = None
    """Folder of report.html and report.json; 'report' beside the model if not given."""
    levels: tuple[str, ...] = ()
    """Other levels or goals: data folders, or ids of environments to play in at random."""
    burn_in: int = 5
    """Real observations that the filter sees first."""
    horizon: int = 30
    """Steps to imagine."""
    sequences: int = 128
    """Real sequences."""
    samples: int = 4
    """Dreams from each."""
    steps: int = 2000
    """Real steps to play at random, where no data are given."""
    policies: int = 12
    """Policies whose returns are compared in the dream and in reality; 0 compares none."""
    episodes: int = 6
    """Episodes of each, at least 2."""
    return_steps: int = 50
    """Steps after which an episode is cut, in the dream and in reality."""
    generations: int = 4
    """Of the search in the dream for what the model over-rates."""
    film_steps: int = 40
    """Steps of the film, at most the horizon; 0 makes none."""
    lpips: str | None = None
    """A network of yours as module:name, from images in [-1, 1] to feature maps."""
    fid: str | None = None
    """A network of yours as module:name, from images in [0, 1] to features."""
    fvd: str | None = None
    """A network of yours as module:name, from clips [N, C, T, H, W] in [0, 1] to features."""
    seed: int = 0
    """Of sequences, dreams, policies and real episodes."""
    device: str = "cpu"
    """Where to dream: cpu, cuda, mps, or auto for the best there is."""


def run(config: ReportConfig) -> dict[str, Any]:
    """Measure, conclude, and write the page."""
    names = ("burn_in", "horizon", "sequences", "samples", "steps", "return_steps", "generations")
    at_least(1, **{name: getattr(config, name) for name in names})
    at_least(2, episodes=config.episodes)  # how far returns vary by chance is told of two
    at_least(0, policies=config.policies, film_steps=config.film_steps)
    check_folders(model=config.model, data=config.data)
    from wmcomponents.cli.judged import environment, evidence_of, facts_of
    from wmcomponents.evaluation.truth.truth_report import TruthSettings, truth_report, write_truth_report
    from wmcomponents.models.loading import load

    quiet()
    backbones = _backbones(config)
    model = load(config.model, device=device_of(config.device))
    place = environment(config, config.model)
    out = check_place(config.out if config.out is not None else config.model.parent / "report")
    evidence, sources = evidence_of(config.data, place, model, config)
    levels = {}
    for level in config.levels:
        folder = Path(level)
        there = (folder,) if folder.is_dir() else ()
        levels[level] = evidence_of(there, place.elsewhere(level), model, config)[0]
    report, shown = truth_report(
        model,
        evidence,
        settings=TruthSettings(
            config.burn_in, config.horizon, config.samples, _returns(config), config.film_steps, seed=config.seed
        ),
        env_id=place.id,
        make_env=place.maker(config.seed) if config.policies else None,
        levels=levels,
        backbones=backbones,
        facts={"model": facts_of(config.model), "data": {"from": sources}},
        on_section=lambda name: say(f"measuring: {name}"),
    )
    files = write_truth_report(report, shown, out)
    _show(report)
    say(f"wrote {files['html']} and {files['json']}")
    return {
        "model": str(config.model),
        "env": place.id,
        **report["headline"],
        "conclusions": {one["topic"]: one["verdict"] for one in report["conclusions"]},
        "files": {name: str(path) for name, path in files.items()},
    }


def _returns(config: ReportConfig) -> Any:
    from wmcomponents.evaluation.truth.returns import ReturnSettings

    count = max(config.policies, 3)
    return ReturnSettings(count, config.episodes, config.return_steps, config.generations, 2 * count)


def _backbones(config: ReportConfig) -> Any:
    from wmcomponents.evaluation.truth.pictures import Backbones

    given = {name: getattr(config, name) for name in ("lpips", "fid", "fvd")}
    loaded: dict[str, Any] = {name: _network(f"--{name}", text) for name, text in given.items() if text is not None}
    names = ", ".join(f"{name} {text}" for name, text in given.items() if text is not None)
    return Backbones(**loaded, names=names or Backbones.names)


def _network(option: str, text: str) -> Callable[..., Any]:
    """What ``module:name`` names.

    Raises:
        UsageError: if there is no such thing, or it cannot be called.
    """
    module, colon, name = text.partition(":")
    if not colon or not name:
        raise UsageError(f"{option} is a network of yours, written module:name; got {text!r}.")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise UsageError(f"{option} {text}: {error}. --import MODULE puts this folder on the path too.") from error
    if not callable(found):
        raise UsageError(f"{option} {text} is a {type(found).__name__}, which cannot be called on images.")
    return found


def _show(report: dict[str, Any]) -> None:
    """The conclusions on the terminal."""
    say(f"\n{report['headline']['says']}")
    rows = [[one["verdict"], " ".join((one["says"], one["do"])).strip()] for one in report["conclusions"]]
    from rich import box
    from rich.table import Table

    from wmcomponents.cli.console import _console

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", padding=(0, 1))
    table.add_column("verdict", no_wrap=True)
    table.add_column("what to conclude")
    for row in rows:
        table.add_row(*row)
    _console().print(table, highlight=False)
    shown = report["prediction"]["steps_shown"]
    steps = sorted({1, min(5, shown), min(10, shown), shown})
    lines = [
        [f"{one['name']}, {one['metric']}", *(number(one["model"]["mean"][k - 1]) for k in steps)]
        for one in report["prediction"]["quantities"]
        if not one["constant"]
    ]
    show_table("Error after k imagined steps", ["", *(f"k={k}" for k in steps)], lines)
