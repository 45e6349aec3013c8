"""Counts of the source: what is counted, and that the page is what its numbers say."""

import json

from benchmarks import structure
from tests.support.pages import ROOT

FOLDER = ROOT / "docs" / "benchmarks"
SOURCE = '''
from wmcomponents.room import other


class Part:
    def forward(self, x: Tensor, flag: bool) -> Tensor:
        """Twice ``[*B, F]``."""
        if flag and x.ndim or not flag:
            return [2 * y for y in x]

        def within(y):
            return y if flag else 0

        return within(x)


def bare(x: Tensor) -> Tensor:
    """Nothing said."""


def annotated(x: Float[Tensor, "b"]) -> Tensor:
    pass


def _private(x: Tensor):
    pass
'''


def test_the_page_is_what_its_numbers_say():
    assert (FOLDER / "structure.md").read_text() == structure.page(json.loads((FOLDER / "structure.json").read_text()))


def test_branches_count_and_functions_within_count_for_themselves():
    found = {block.where.split(":")[1]: block for block in structure.blocks({"room/part.py": SOURCE})}
    assert {name: block.complexity for name, block in found.items() if block.complexity > 1} == {
        "Part.forward": 5,  # if, and, or, the comprehension
        "Part._forward.within": 2,
    }


def test_shapes_are_asked_of_public_functions_that_take_tensors():
    found = {block.where.split(":")[1]: block for block in structure.blocks({"room/part.py": SOURCE})}
    assert {name: block.has_shapes for name, block in found.items() if block.takes_tensors} == {
        "Part.forward": True,
        "bare": False,
        "annotated": True,
    }


def test_a_room_has_entries_and_imports_between_them():
    files = {"room/__init__.py": "from wmcomponents.room import part", "room/part.py": SOURCE, "room/other.py": ""}
    files["room/folder/deep.py"] = "from wmcomponents.room.part import Part\nimport wmcomponents.room.part"
    files["elsewhere.py"] = "from wmcomponents.room.part import Part"
    found = structure.rooms(files)
    assert found["room"] == {"entries": 3, "imports": 1} and found["room/folder"] == {"entries": 1, "imports": 0}


def test_a_count_alone_has_one_column():
    now = json.loads((FOLDER / "structure.json").read_text())["now"]
    assert structure.tables(None, now)["whole"].splitlines()[0] == "|  | now |"
