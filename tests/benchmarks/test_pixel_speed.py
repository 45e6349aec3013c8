"""The measurements of worlds of tokens and pixels run, on small ones; none of them is timed here."""

import json
import mmap
from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmarks import measuring, pixel_speed
from benchmarks.measuring import BareCalls, FlopCount, Setup, peak_memory, resident, row

QUICK = Setup(repeats=1, threads=1, cpu_time=True)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(measuring, "GEMM", 8)
    monkeypatch.setattr(pixel_speed, "SIDE", 16)
    for name in pixel_speed.FAMILIES:
        kept = replace(pixel_speed.WORLDS[name], steps=2, preset="tiny", batches=(2,))
        monkeypatch.setitem(pixel_speed.WORLDS, name, kept)


@torch.no_grad()
@pytest.mark.parametrize("family", [name for name in pixel_speed.FAMILIES if name != "Genie, 25 rounds"])
def test_a_dream_is_measured_beside_its_floor_and_its_bare_calls(small, family):
    dreamt, bare = pixel_speed.dream(QUICK, [family], batches=(2,))
    assert (dreamt["variant"], bare["variant"]) == ("dream", "bare")
    assert dreamt["gap"] > 0 and dreamt["gflop"] == bare["gflop"] > 0
    assert {"peak_mib", "state_mib", "rate"} <= set(dreamt)
    assert dreamt["profile"]["ops"] > 0 and (dreamt["profile"]["conv_share"] > 0) == (not family.startswith("Genie"))


@torch.no_grad()
def test_iris_is_measured_with_and_without_its_cache(small):
    cached, uncached = pixel_speed.cache(QUICK, ["IRIS"], batches=(2,), frames=3)
    assert (cached["variant"], uncached["variant"], cached["against"]) == ("cached", "uncached", "uncached")
    assert pixel_speed.cache(QUICK, ["Diamond"]) == []


@torch.no_grad()
def test_what_is_written_without_a_cache_is_what_the_cache_writes(small):
    model = pixel_speed.build("IRIS")
    state, action, sequence, noise = pixel_speed.contexts(model, 2, 3, "cpu")
    written = pixel_speed.uncached(model.dynamics, sequence, noise["tokens"])
    torch.testing.assert_close(model.imagine(state, action, noise).state["tokens"], written)


@torch.no_grad()
def test_bare_calls_are_the_products_and_convolutions_with_the_models_weights():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))
    x = torch.randn(2, 3, 8, 8)
    bare = BareCalls(net)
    with bare:
        net(x)
    with FlopCount() as eager:
        net(x)
    with FlopCount() as replayed:
        bare.replay()
    assert len(bare.calls) == 2 and replayed.total == eager.total > eager.convolutions == replayed.convolutions > 0
    weights = {weight.untyped_storage().data_ptr() for weight in net.parameters()}
    kept = [a for _, args, _ in bare.calls for a in args if isinstance(a, torch.Tensor)]
    assert sum(a.untyped_storage().data_ptr() in weights for a in kept) == 4


def test_convolutions_have_a_floor_of_their_own():
    flop = 18 * 16 * (64 * 32) ** 2
    times = {"ours": [3.0], "gemm": [1.0], "conv": [0.5]}
    made = row(times, "ours", work="w", config="c", flop=flop + 2 * 2048**3, conv_flop=flop)
    assert made["floor_ms"] == 1500.0 and made["gap"] == 2.0
    convolution = measuring.convolution(Setup())
    with FlopCount() as counted:
        convolution()
    assert counted.convolutions == counted.total == pytest.approx(flop)


@pytest.mark.skipif(resident() is None, reason="this system does not tell how much memory a process has")
def test_the_peak_of_memory_is_that_of_the_call():
    def fresh() -> None:
        with mmap.mmap(-1, 2**26) as memory:  # what an allocator holds free would be no growth
            memory.write(bytes(2**26))

    before = resident()
    peak = peak_memory(fresh, "cpu")
    assert before is not None
    if peak is not None:  # a container may forbid to begin the count anew
        assert peak - before > 2**25


def test_long_calls_are_run_once_a_repeat(monkeypatch):
    monkeypatch.setattr(measuring, "LONG", 0.0)
    calls: list[int] = []
    measuring.interleaved({"a": lambda: calls.append(1)}, Setup(repeats=2))
    assert len(calls) == 1 + 2


def test_the_command_writes_both_files_and_says_what_was_not_measured(tmp_path, monkeypatch):
    line = {"work": "IRIS, B=16", "config": "c", "variant": "dream", "ms": 1.5, "range": [1.0, 2.0]}
    line |= {"rate": 600.0, "peak_mib": 1234.0}
    monkeypatch.setattr(pixel_speed, "SECTIONS", {name: lambda *_: [line] for name in ("dream", "cache")})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for only in ("cache", "dream"):
        pixel_speed.main(["--only", only, "--repeats", "1", "--out", str(tmp_path)])
    result = json.loads((tmp_path / "pixel_speed.json").read_text())
    assert list(result["sections"]) == ["dream", "cache"]
    text = (tmp_path / "pixel_speed.md").read_text()
    assert "skipped, no GPU" in text and "| 1,234 MiB |" in text and "{" not in text
    pixel_speed.main(["--report", "--out", str(tmp_path)])
    assert (tmp_path / "pixel_speed.md").read_text() == text


def test_what_was_measured_of_other_worlds_stays_on_the_page():
    before = {"settings": 1, "rows": [{"work": "STORM, B=1", "ms": 1}, {"work": "IRIS, B=1", "ms": 2}]}
    now = {"settings": 2, "rows": [{"work": "STORM, B=1", "ms": 3}]}
    found = pixel_speed.beside_others(before, now)
    assert found == {"settings": 2, "rows": [{"work": "IRIS, B=1", "ms": 2}, {"work": "STORM, B=1", "ms": 3}]}
    assert pixel_speed.beside_others(None, now) == pixel_speed.beside_others({"skipped": "no GPU"}, now) == now
