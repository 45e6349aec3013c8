from pathlib import Path

import pytest

from tests.support.running import wmc

KEYS = {"env", "seed", "real_steps", "dream_steps", "seconds", "random_return", "dream_return", "real_return", "files"}


@pytest.mark.slow
def test_a_small_demo_tells_its_whole_story(tmp_path):
    for package in ("stable_baselines3", "matplotlib", "pygame"):
        pytest.importorskip(package)
    ran = wmc(
        "demo", "--out", tmp_path / "demo", "--real-steps", 200, "--rounds", 2, "--updates", 3, "--dream-steps", 1024,
        "--final-dream-steps", 1024, "--dreams", 8, "--sequence-length", 16, "--batch-size", 4, "--episodes", 2,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert set(ran.result) == KEYS
    assert ran.result["real_steps"] == 200
    for path in ran.result["files"].values():
        assert Path(path).exists() and tmp_path in Path(path).parents
    assert "agent, real return" in ran.err
