import json

import pytest

from tests.support.running import wmc

FEW = "--horizon 6 --sequences 16 --samples 2 --policies 4 --episodes 2 --return-steps 8 --generations 1 --film-steps 0"


@pytest.fixture(scope="module")
def report(data, model, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    ran = wmc("report", model, "--data", data, "--out", out, *FEW.split())
    assert ran.code == 0, ran.err
    return out, ran


def test_a_report_is_written_and_its_conclusions_are_told(report):
    out, ran = report
    found = json.loads((out / "report.json").read_text())
    assert found["model"]["family"] == "DreamerV3" and found["data"]["env"] == "CartPole-v1"
    assert found["returns"]["policies"] == 4
    assert ran.result["says"] == found["headline"]["says"] and found["headline"]["says"] in ran.err
    assert (out / "report.html").read_text().startswith("<!doctype html>")


def test_fresh_steps_are_played_where_no_data_are_given(model, report, tmp_path):
    ran = wmc(
        "report", model, "--steps", 60, "--out", tmp_path, "--levels", "CartPole-v1", *FEW.split(), "--policies", 0
    )
    assert ran.code == 0, ran.err
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["data"]["from"] == "60 steps of random play" and found["data"]["steps"] == 60
    assert "no environment" in found["returns"]["not_measured"]
    assert [level["name"] for level in found["levels"]["levels"]] == ["the report's own data", "CartPole-v1"]
    ran = wmc("compare", report[0], tmp_path, "--out", tmp_path / "both.html")
    assert ran.code == 0 and len(ran.result["reports"]) == 2 and (tmp_path / "both.html").is_file()


@pytest.mark.parametrize(
    "arguments,says",
    [
        (["--fid", "no_such_module:net"], "--fid no_such_module:net"),
        (["--fid", "json"], "written module:name"),
        (["--lpips", "json:decoder"], "cannot be called"),
        (["--horizon", "0"], "--horizon is at least 1"),
        (["--episodes", "1"], "--episodes is at least 2"),
    ],
)
def test_wrong_use_is_refused_before_any_work(data, model, tmp_path, arguments, says):
    ran = wmc("report", model, "--data", data, "--out", tmp_path, *arguments)
    assert ran.code == 2 and says in ran.err


def test_comparing_needs_two_reports(report, tmp_path):
    assert wmc("compare", report[0]).code == 2
    ran = wmc("compare", report[0], tmp_path)
    assert ran.code == 1 and "holds no report" in ran.err
