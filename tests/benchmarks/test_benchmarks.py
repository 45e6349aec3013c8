"""Every measurement runs; none of them is timed here."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import dream_agents, dreaming, imagination, learning, overhead, rssm_observe, sequence_sampling, update
from benchmarks.measuring import Setup, flops, interleaved, profile, row
from benchmarks.report import markdown

QUICK = Setup(repeats=1, threads=1, cpu_time=True, compiled=False, floor=False)


def names(rows: list[dict]) -> set[str]:
    return {row["variant"] for row in rows}


def test_observe_compares_both_passes_with_torchrl():
    rows = rssm_observe.measure(QUICK, ("mini",), batch=2, time=3)
    assert len(rows) == 4 and names(rows) == {"ours", "TorchRL"}
    assert all(row["ratio"] > 0 and row["goal"] == 1.0 for row in rows if row["variant"] == "ours")


def test_imagination_has_a_goal_at_the_large_batch_only():
    rows = imagination.measure(QUICK, ("mini",), batches=(1, 1024))
    assert [row["work"] for row in rows if "goal" in row] == ["imagine 15 steps, B=1024"]


def test_an_update_is_measured_beside_torchrls():
    assert names(update.measure(QUICK, ("mini",), batch=2, time=3)) == {"ours", "TorchRL"}


def test_dreams_are_measured_beside_real_environments():
    rows = dreaming.measure(QUICK, ("tiny",), batches=(2,))
    assert {"DreamVectorEnv (tiny)", "DreamVecEnv (tiny)", "TorchRLDreamEnv (tiny)"} < names(rows)
    assert all(row["rate"] > 0 for row in rows)


def test_overhead_and_sampling_are_measured():
    table = overhead.measure((1,), repeats=1, compiled=False, cpu_time=True)["table"]
    assert table["1"]["plain"]["ratio"] == 1.0 and len(table["1"]["torchrl"]["range"]) == 2
    found = sequence_sampling.measure(steps=2000, sequence_length=8, repeats=1, episode_length=50)
    assert set(found["sample"]["range"]) == {"ours", "crossing", "episodes", "ids"}


def test_a_fit_is_held_against_reality_and_drawn_as_a_table(tmp_path, monkeypatch):
    pytest.importorskip("gymnasium")
    monkeypatch.setattr(learning, "REAL_STEPS", 300)
    monkeypatch.setattr(learning, "HELD_OUT_STEPS", 300)
    monkeypatch.setattr(learning, "HELD_OUT_SEQUENCES", 32)
    quick = learning.Fit(updates=2, sequence_length=16, batch_size=4)
    monkeypatch.setitem(learning.FITS, ("DreamerV3", "Pendulum-v1"), quick)
    found = learning.fit("DreamerV3", "Pendulum-v1", 0, tmp_path)
    assert found == learning.fit("DreamerV3", "Pendulum-v1", 0, tmp_path)  # kept
    assert all(len(error["model"]) == len(learning.KS) for error in found["errors"].values())
    page = learning.table([found])
    assert "| DreamerV3 |" in page and "| *copy* |" in page
    assert "**termination**: nothing to predict" in page  # Pendulum has no end but its time limit


def test_agents_of_dreams_are_drawn_as_a_table():
    run = {"real_return": 450.0, "seconds": 200.0, "real_steps": 10_000, "dream_steps": 450_560}
    page = dream_agents.table({"DreamerV3": [run, {**run, "real_return": 399.9}, run]})
    assert "| DreamerV3 | decoded | 10,000 | 450,560 | **450.0** / 399.9 / **450.0** | **450.0** | 200 s |" in page


def test_the_pass_that_is_timed_is_the_same_maths_for_both():
    size = rssm_observe.SIZES["mini"]
    runs = rssm_observe.forwards(size, QUICK, batch=2, time=3, unrolled=False)
    with torch.no_grad():
        ours, theirs = (flops(runs[name][1]) for name in ("ours", "TorchRL"))
        assert [x.shape for x in runs["ours"][1]()] == [x.shape for x in runs["TorchRL"][1]()]
    assert ours == pytest.approx(theirs, rel=0.02)
    counts = [sum(p.numel() for p in module.parameters()) for module, _ in runs.values()]
    assert counts[0] == counts[1]


def test_the_models_that_are_updated_have_the_same_parameters():
    size = rssm_observe.SIZES["small"]
    theirs = sum(p.numel() for p in update.make_loss(size, scan=False).parameters())
    spec = update.Composite(observation=update.Unbounded(update.OBSERVATION))
    ours = update.DreamerV3(size.config(), spec, update.Bounded(-1, 1, torch.Size([update.ACTION])))
    assert sum(p.numel() for p in ours.parameters()) == pytest.approx(theirs, rel=0.01)


def test_flops_are_those_of_matrix_products_forward_and_backward():
    layer, x = torch.nn.Linear(3, 5), torch.randn(7, 3, requires_grad=True)
    assert flops(lambda: layer(x)) == 2 * 7 * 3 * 5
    assert flops(lambda: layer(x).sum().backward()) == 3 * 2 * 7 * 3 * 5


def test_a_profile_counts_operations_and_the_share_of_matrix_products():
    a = torch.randn(64, 64)
    found = profile(lambda: (a @ a).relu())
    assert found["ops"] >= 2 and 0 < found["matmul_share"] < 1


def test_a_row_compares_with_the_better_rival_and_knows_the_floor():
    times = {"ours": [2.0, 2.0], "slow": [8.0, 8.0], "fast": [4.0, 4.0], "gemm": [1.0, 1.0]}
    made = row(times, "ours", work="w", config="c", flop=2 * 2048**3, rivals=("slow", "fast"), goal=0.4, steps=10)
    assert (made["ratio"], made["against"], made["met"]) == (0.5, "fast", False)
    assert (made["gap"], made["floor_ms"], made["rate"]) == (2.0, 1000.0, 5.0)


def test_variants_take_turns():
    calls: list[str] = []
    runs = {name: (lambda name=name: calls.append(name)) for name in ("a", "b")}
    times = interleaved(runs, Setup(repeats=2, cpu_time=True), least=0.0)
    assert [len(values) for values in times.values()] == [2, 2]
    assert calls[-8:] == ["a", "a", "b", "b"] * 2


def test_the_command_writes_both_files_and_merges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fake(ratio: float):
        line = {"work": "w", "config": "c", "variant": "ours", "ms": 1.5, "range": [1.0, 2.0]}
        return lambda setup: [line | {"ratio": ratio, "goal": 1.0, "met": ratio <= 1.0}]

    monkeypatch.setattr(command, "SECTIONS", {"overhead": fake(0.5), "observe": fake(2.0)})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for only in ("observe", "overhead"):
        command.main(["--only", only, "--repeats", "1", "--out", str(tmp_path)])
    result = json.loads((tmp_path / "speed.json").read_text())
    assert list(result["sections"]) == ["overhead", "observe"]
    assert result["sections"]["observe"]["cuda"] == {"skipped": "no GPU"}
    text = (tmp_path / "speed.md").read_text()
    assert "1 of 2 are met" in text and "**missed**" in text and "skipped, no GPU" in text
    assert text == markdown(result)
    settings = result["sections"]["observe"]["cpu"]["settings"]
    assert {"date", "threads", "clock", "repeats", "machine"} <= set(settings)


def test_the_command_has_pages_that_other_modules_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    called: list[tuple[str, list[str]]] = []
    for module in (command.families, command.pixel_speed):
        monkeypatch.setattr(module, "main", lambda given, name=module.__name__: called.append((name, given)))
    monkeypatch.setitem(command.PAGES, "pixel_speed", command.pixel_speed.main)
    command.main(["--only", "families", "pixel_speed", "--cpu-time", "--out", str(tmp_path)])
    (first, given), (second, common) = called
    assert (first, second) == ("benchmarks.families", "benchmarks.pixel_speed")
    assert common == ["--out", str(tmp_path), "--cpu-time"] and given[-3:] == common
    assert "DreamerV3" in given and "IRIS" not in given
    assert not (tmp_path / "speed.json").exists()
