"""The speed of worlds of features is measured; nothing is timed here."""

from benchmarks import features_speed
from benchmarks.measuring import Setup
from wmcomponents.models import FrozenEncoderConfig

QUICK = Setup(repeats=1, threads=1, cpu_time=True, compiled=False, floor=False)


def test_updates_are_measured_with_and_without_kept_features(monkeypatch):
    monkeypatch.setattr(features_speed, "SIDE", 16)
    small = FrozenEncoderConfig("timm", 16, 1, 2, 32, (8, 8), positions=(16, 16), size=())
    ours, again = features_speed.keeping(QUICK, small)
    assert ours["variant"] == "ours" and again["variant"] == features_speed.AGAIN and ours["ratio"] > 0


def test_a_plan_is_measured_beside_its_predictors_calls(monkeypatch):
    monkeypatch.setattr(features_speed, "SIDE", 16)
    monkeypatch.setattr(features_speed, "CANDIDATES", 30)
    ours, plain = features_speed.planning(QUICK, ("tiny",), 1)
    assert ours["gap"] > 0 and plain["variant"] == features_speed.PLAIN
    facts = {"rows": [ours, plain], "command": "it", "timm": None, **QUICK.describe()}
    assert "DINO-WM's plan" in features_speed.page(facts)
