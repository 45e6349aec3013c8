"""The benchmark pages say what the numbers beside them say, and a user's question comes first."""

import json
import re

import pytest

pytest.importorskip("matplotlib")

from benchmarks import (
    agents_page,
    demo_table,
    dream_agents,
    dream_only_page,
    dreamer_update,
    families,
    features_page,
    features_pointmaze,
    features_speed,
    film_pages,
    learning,
    openings,
    pixel_page,
    pixel_speed,
    planning,
    play_latency,
    playable_page,
    plots,
    probes,
    report,
    ring_attention,
    sb3_rollouts,
    search,
    tdmpc2_speed,
    video_nwm,
    video_page,
    video_speed,
)
from tests.support.pages import ROOT

FOLDER = ROOT / "docs" / "benchmarks"
FILMS = FOLDER / "media" / "films.json"


def facts(name):
    return json.loads((FOLDER / f"{name}.json").read_text())


def film_names():
    return {file.stem: file.name for file in (FOLDER / "media").iterdir() if file.suffix in film_pages.FILMS}


PAGES = {
    "speed": lambda: report.markdown(facts("speed")),
    "families": lambda: report.markdown(
        facts("families"), families.TITLES, families.LEADS, families.HEAD, openings.families
    ),
    "pixel_speed": lambda: pixel_speed.page(facts("pixel_speed")),
    "learning": lambda: learning.table(facts("learning")["fits"]),
    "dream_agents": lambda: dream_agents.table(facts("dream_agents")["runs"]),
    "dream_only": lambda: dream_only_page.table(facts("dream_only")),
    "demo": lambda: demo_table.table(facts("demo")["demo"], facts("demo")["ppo_on_the_real_environment"]),
    "agents": lambda: agents_page.page(facts("agents")),
    "planning": lambda: planning.table(facts("planning")),
    "video": lambda: video_page.table(facts("video"), film_names(), json.loads(FILMS.read_text())),
    "pixels": lambda: pixel_page.table(facts("pixels"), film_names(), json.loads(FILMS.read_text())),
}


TABLES = {
    "dreamer_update": lambda: dreamer_update.page(facts("dreamer_update")),
    "sb3_rollouts": lambda: sb3_rollouts.page(facts("sb3_rollouts")),
    "tdmpc2_speed": lambda: tdmpc2_speed.page(facts("tdmpc2_speed")),
    "point_maze": lambda: features_pointmaze.page(facts("point_maze")),
    "search": lambda: search.page(facts("search")),
    "ring_attention": lambda: ring_attention.page(facts("ring_attention")),
    "probes": lambda: probes.page(facts("probes")),
    "features_speed": lambda: features_speed.page(facts("features_speed")),
    "features": lambda: features_page.page(facts("features")),
    "video_nwm": lambda: video_nwm.page(facts("video_nwm")),
    "video_speed": lambda: video_speed.page(facts("video_speed")),
    "playable": lambda: playable_page.table(facts("playable"), film_names(), json.loads(FILMS.read_text())),
    "play_latency": lambda: play_latency.page_of(facts("play_latency")),
}
"""Pages of one table, without a figure."""


@pytest.mark.parametrize(("name", "made"), (PAGES | TABLES).items(), ids=PAGES | TABLES)
def test_a_page_is_what_its_numbers_say(name, made):
    assert (FOLDER / f"{name}.md").read_text() == made()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_with_its_figure_and_ends_with_how_it_was_measured(name):
    text = (FOLDER / f"{name}.md").read_text()
    drawn, table = text.index(f"(media/{name}.svg)"), text.index("\n|")
    assert drawn < table < text.index("## How it was measured")
    assert "## Our own goals" not in text or text.index("## Our own goals") > text.index("## How it was measured")


@pytest.mark.parametrize("name", plots.PLOTS)
def test_a_figure_is_drawn_from_the_numbers_beside_it(name, tmp_path):
    (tmp_path / f"{name}.json").write_text((FOLDER / f"{name}.json").read_text())
    drawn = plots.draw(name, tmp_path).read_text()
    assert drawn.count("<path") > 20 and "url(http" not in drawn


def test_the_same_numbers_are_the_same_file(tmp_path):
    (tmp_path / "demo.json").write_text((FOLDER / "demo.json").read_text())
    assert plots.draw("demo", tmp_path).read_bytes() == plots.draw("demo", tmp_path).read_bytes()


def test_figures_of_parts_of_a_measurement_are_drawn_too(tmp_path):
    (tmp_path / "speed.json").write_text(json.dumps({"sections": {"update": {"cuda": {"skipped": "no GPU"}}}}))
    assert plots.draw("speed", tmp_path).is_file()
    assert openings.speed({"sections": {}}).count("- **") == 0


def test_every_film_on_the_page_is_there_and_says_what_it_shows():
    text = (FOLDER / "pixels.md").read_text()
    shown = re.findall(r"\(media/([^)]*\.(?:gif|webp))\)\n\n\*\*\*(.*)", text)
    assert len(shown) == len(facts("pixels")["fits"])
    assert all((FOLDER / "media" / file).is_file() and len(words) > 60 for file, words in shown)
