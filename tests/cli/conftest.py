from pathlib import Path

import pytest

from tests.cli.running import wmc

pytest.importorskip("tyro")
pytest.importorskip("gymnasium")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 random steps of CartPole."""
    path = tmp_path_factory.mktemp("wmc") / "data"
    ran = wmc("collect", "--env", "CartPole-v1", "--steps", 300, "--out", path)
    assert ran.code == 0, ran.err
    return path


@pytest.fixture(scope="session")
def model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world model after three updates."""
    out = tmp_path_factory.mktemp("wmc") / "run"
    ran = wmc(*train_arguments(data, out))
    assert ran.code == 0, ran.err
    return out / "model"


def train_arguments(data: Path, out: Path, steps: int = 3) -> list:
    sizes = ["--batch-size", 4, "--sequence-length", 16, "--start-states", 32]
    return ["train", "--data", data, "--out", out, "--steps", steps, *sizes]
