"""The measurements of the families run; none of them is timed here."""

import json

import pytest
import torch
from torchrl.data import OneHot

from benchmarks import families, overhead
from benchmarks.measuring import Setup, flops, row
from wmcomponents.models import MODELS

QUICK = Setup(repeats=1, threads=1, cpu_time=True, compiled=False)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(families.PAPER, "DreamerV3", "size1m")


def test_a_dream_is_measured_beside_a_plain_loop(small):
    rows = families.steps(QUICK, ["DreamerV3"], batches=(2,))
    assert [found["variant"] for found in rows] == 2 * list(families.MEASURED)
    assert {found["config"] for found in rows} == {"tiny", "size1m"}
    assert all(("against" in found) == (found["variant"] != "plain") and "goal" not in found for found in rows)


SLOW = {
    "Diamond": pytest.mark.slow,
    "IRIS": pytest.mark.slow,
    **dict.fromkeys(["AVID", "CausVid", "DiffusionForcing", "OpenSora"], pytest.mark.weekly),
}
"""Of the last ones the plain loop is built as for Oasis, which is quick."""


@pytest.mark.parametrize("family", [pytest.param(name, marks=[SLOW[name]] if name in SLOW else []) for name in MODELS])
def test_the_plain_loop_is_the_same_maths_as_imagine(family, monkeypatch):
    for module in (families, overhead):
        monkeypatch.setattr(module, "STEPS", 2)
    stepped = families.subject(families.build(family, "tiny"), batch=3, least=3)
    runs = overhead.variants(3, compiled=False, subject=stepped)
    with torch.no_grad():
        plain = runs["plain"]()
        assert flops(runs["plain"]) == pytest.approx(flops(runs["imagine"]), rel=0.05)
        assert flops(runs["plain"]) == pytest.approx(flops(runs["simulator"]), rel=0.05)
    assert all(value.shape[:2] == (families.STEPS, 3) and value.isfinite().all() for value in plain)


@pytest.mark.parametrize("family", list(MODELS))
def test_every_family_has_a_preset_of_its_paper_beside_tiny(family):
    tiny, paper = families.sizes(family)
    assert tiny == "tiny" and paper != "tiny"
    with torch.device("meta"):  # shapes alone: the paper's sizes are large
        assert families.build(family, paper).action_spec is not None


def test_a_batch_that_would_take_minutes_is_left_out(small, monkeypatch):
    monkeypatch.setattr(families, "PATIENCE", 0.0)
    monkeypatch.setattr(families, "MEASURED", ("plain",))
    assert {found["work"] for found in families.steps(QUICK, ["DreamerV3"], batches=(1, 2))} == {"DreamerV3, B=1"}


def test_a_policy_over_discrete_actions_writes_one_hot_vectors():
    actions = families.Greedy(torch.Size([5]), OneHot(3), "cpu")(torch.randn(4, 5))
    assert actions.shape == (4, 3) and (actions.sum(-1) == 1).all()


def test_an_update_of_tdmpc2_has_a_gap_to_its_floor():
    found = families.updates(QUICK, ("tiny",), windows=4)[0]
    assert found["gap"] > 0 and found["gflop"] > 0 and "ratio" not in found and "goal" not in found


def test_a_row_without_a_rival_is_judged_by_its_gap():
    judged = row({"ours": [2.0], "gemm": [1.0]}, "ours", work="w", config="c", flop=2 * 2048**3, goal=1.6)
    assert (judged["gap"], judged["goal"], judged["met"]) == (2.0, 1.6, False)
    sections = {"updates": {"cpu": {"settings": QUICK.describe(), "rows": [judged]}}}
    text = families.markdown({"sections": sections}, families.TITLES, families.LEADS, families.HEAD)
    assert "gap at most 1.6: **missed**" in text and "| gap 2.0 | 1.6 |" in text


def test_the_command_writes_both_files_and_merges(tmp_path, monkeypatch):
    line = {"work": "w", "config": "c", "variant": "plain", "ms": 1.5, "range": [1.0, 2.0]}
    monkeypatch.setattr(families, "steps", lambda setup, names: [line])
    monkeypatch.setattr(families, "updates", lambda setup: [line])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for only in ("updates", "steps"):
        families.main(["--only", only, "--repeats", "1", "--out", str(tmp_path)])
    result = json.loads((tmp_path / "families.json").read_text())
    assert list(result["sections"]) == ["steps", "updates"]
    assert result["sections"]["steps"]["cpu"]["settings"]["threads"] == 1
    before = (tmp_path / "families.md").read_text()
    assert "skipped, no GPU" in before
    families.main(["--report", "--out", str(tmp_path)])
    assert (tmp_path / "families.md").read_text() == before
