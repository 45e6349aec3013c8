"""Every family has a report in the docs, written by the command, in one layout, and its card leads there."""

import html
import json

import pytest

from benchmarks.reports import FAMILIES, page
from tests.support.pages import ROOT
from wmcomponents.evaluation.truth import FORMAT, SECTIONS
from wmcomponents.models import MODELS

REPORTS = ROOT / "docs" / "benchmarks" / "reports"
CARDS = ROOT / "docs" / "explanation" / "models"


def test_every_family_is_reported():
    assert set(FAMILIES) == set(MODELS)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_has_its_report_of_the_common_layout(family):
    report = json.loads((REPORTS / f"{family}.json").read_text())
    assert tuple(report) == SECTIONS and report["format"] == FORMAT and report["model"]["family"] == family
    page = REPORTS / f"{family}.html"
    assert page.stat().st_size < 300_000 and report["headline"]["says"] in html.unescape(page.read_text())
    card = (CARDS / f"{FAMILIES[family].card}.md").read_text()
    assert f"(../../benchmarks/reports/{family}.html)" in card


def test_the_page_has_the_rows_of_all_reports_that_are_there():
    assert (ROOT / "docs" / "benchmarks" / "reports.md").read_text() == page(REPORTS)
