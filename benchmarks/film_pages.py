"""What pages share that show a film of each fit."""

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.pixel_worlds import run_name

FILMS = (".webp", ".gif")
"""Endings of films."""


def name_of(one: Mapping[str, Any]) -> str:
    """Of a fit's files."""
    return run_name(one["family"], one["env"], one["seed"])


def film_in(folder: Path, name: str) -> Path:
    """A fit's film in a folder."""
    return next(file for suffix in FILMS if (file := folder / f"{name}{suffix}").is_file())


def copy_films(fits: Iterable[Mapping[str, Any]], runs: Path, out: Path) -> None:
    """Put the films of fits beside the pages.

    Args:
        fits: what was found of each.
        runs: where their films are.
        out: folder of the pages.
    """
    media = out / "media"
    media.mkdir(parents=True, exist_ok=True)
    for one in fits:
        film = film_in(runs, name_of(one))
        shutil.copyfile(film, media / film.name)


def films_and_words(fits: Iterable[Mapping[str, Any]], out: Path) -> tuple[dict[str, str], dict[str, str]]:
    """File of each fit's film by the fit's name, and what films were seen to show by file.

    Args:
        fits: what was found of each.
        out: folder of the pages.
    """
    media, names = out / "media", [name_of(one) for one in fits]
    words = media / "films.json"
    films = {name: film_in(media, name).name for name in names}
    return films, json.loads(words.read_text()) if words.is_file() else {}


def film_lines(file: str, name: str, where: str, shown: Mapping[str, str]) -> list[str]:
    """A film on a page, with what it was seen to show.

    Args:
        file: of the film.
        name: of the fit.
        where: what the picture's description adds to the name.
        shown: what films were seen to show, by file. Nobody has looked at a new one, so that it has no entry.
    """
    lines = [f"![{name}{where}: reality beside the dream](media/{file})", ""]
    return [*lines, f"***{name}.** {shown[file]}*" if file in shown else f"***{name}.***", ""]
