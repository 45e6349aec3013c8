"""The walks of the documentation, walked again: the files they name are those that are passed, and calls lead down."""

import re

import pytest

from tests.support import walks
from tests.support.pages import ROOT, rooms

gymnasium = pytest.importorskip("gymnasium")
PAGE = ROOT / "docs" / "explanation" / "walks.md"


def table(heading: str) -> dict[str, list[str]]:
    """The functions that the page names, by file."""
    section = re.search(rf"^## {heading}$(.*?)(?=^## |\Z)", PAGE.read_text(), re.M | re.S)[1]
    named = re.findall(r"^\| `([\w/]+\.py)` \|(.*)\|$", section, re.M)
    assert len({file for file, _ in named}) == len(named), "a file stands twice in the table"
    return {file: re.findall(r"`([\w.]+)`", functions) for file, functions in named}


@pytest.fixture(scope="module", params=walks.WALKS)
def walked(request) -> tuple[str, walks.Walk]:
    if "SB3" in request.param:
        pytest.importorskip("stable_baselines3")
    return request.param, walks.joined(walks.WALKS[request.param]())


def test_a_walk_passes_the_files_of_its_table(walked):
    heading, walk = walked
    assert set(table(heading)) == set(walk.passed), "python -m tests.support.walks writes them anew"


def test_a_walk_passes_the_functions_of_its_table(walked):
    heading, walk = walked
    entered = {file: {name.split(".")[-1] for name in names} for file, names in walk.passed.items()}
    missed = {
        file: [name for name in names if name.split(".")[-1] not in entered[file]]
        for file, names in table(heading).items()
    }
    assert {file: names for file, names in missed.items() if names} == {}


def test_every_call_leads_to_a_file_further_down_the_table(walked):
    heading, walk = walked
    assert walks.backward(list(walk.calls), list(table(heading))) == []


def test_no_call_climbs_to_a_room_above(walked):
    assert walks.climbs(walked[1], rooms()) == []


def test_a_call_back_would_be_seen():
    down, up = (walks.Call(*files, ("f", "g"), False) for files in (("a.py", "b.py"), ("b.py", "a.py")))
    assert walks.backward([down, up], ["a.py", "b.py"]) == [up]
    walk = walks.Walk()
    walk.passed, walk.calls = {"a.py": ["f"], "b.py": ["g"]}, {down: None}
    assert walks.ordered(walk) == ["a.py", "b.py"] and walks.climbs(walk, [["b"], ["a"]]) == [down]
    walk.calls[up] = None
    with pytest.raises(ValueError, match="circle"):
        walks.ordered(walk)
