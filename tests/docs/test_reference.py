"""Which pages the reference has."""

import re

import pytest

from tests.support.pages import ROOT, hook, rooms

pytest.importorskip("mkdocs")

reference = hook("reference")
PAGES = {dotted.removeprefix("wmcomponents.") for dotted in reference.sources()}


def test_every_room_that_passes_names_on_has_a_page():
    found = {path.parent.name for path in (ROOT / "wmcomponents").glob("*/__init__.py") if reference.reexports(path)}
    assert found <= PAGES and {"codecs", "rendering", "world_model", "models"} <= found


def test_what_knows_every_family_and_what_an_open_room_holds_have_pages_too():
    assert {"component", "models.loading", "models.official"} <= PAGES
    assert {"integrations.sb3", "integrations.gymnasium", "integrations.torchrl", "integrations.hub"} <= PAGES
    assert not [name for name in PAGES if name.startswith(("_", "cli.")) or "._" in name]


def test_a_room_where_nothing_lives_has_no_page(tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "PACKAGE", tmp_path / "package")
    for folder in ("agents", "integrations/inhabitant"):
        (tmp_path / "package" / folder).mkdir(parents=True)
        (tmp_path / "package" / folder / "__init__.py").write_text('"""A room."""\n')
    (tmp_path / "package" / "integrations" / "__init__.py").write_text("")
    assert set(reference.sources()) == {"package.integrations", "package.integrations.inhabitant"}


def test_the_list_of_packages_names_all_rooms_lowest_first():
    text = (ROOT / "docs" / "reference" / "index.md").read_text()
    table = text[text.index("| package |") :]
    linked = re.findall(r"\(api/([\w.]+)\.md\)", table)
    assert set(linked) <= PAGES
    assert {name for name in PAGES if "." not in name} - {"integrations", "agents", "cli"} <= set(linked)
    height = {room: number for number, level in enumerate(reversed(rooms())) for room in level}
    heights = [height[name.split(".")[0]] for name in linked]
    assert heights == sorted(heights)


def test_contributing_shows_the_house_as_it_is():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    found = re.search(r"(?:^    [^\n]*\n)+", text[text.index("**Where things go.**") :], re.M)[0]
    shown = [re.findall(r"(?:^| \| )(\w+)", line.strip().split("  ")[0]) for line in found.splitlines()]
    assert [sorted(level) for level in shown] == [sorted(level) for level in rooms()]
