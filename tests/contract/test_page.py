"""The page that maps clauses to tests names tests that exist."""

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS.parent / "docs" / "reference" / "contracts.md"


def test_every_test_named_on_the_contracts_page_exists():
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE.read_text())
    assert len(named) > 60
    missing = [
        f"{file}::{name}"
        for file, name in named
        if not (TESTS / file).is_file() or f"def {name}(" not in (TESTS / file).read_text()
    ]
    assert not missing


def test_every_clause_has_a_test_or_says_why_not():
    rows = [line for line in PAGE.read_text().splitlines() if re.match(r"\| [\dABC]+\.\d+ ", line)]
    assert len(rows) > 60
    assert not [row for row in rows if "::test_" not in row and "not applicable: " not in row]
