from pathlib import Path

import pytest

from tests.support.running import train_arguments, wmc

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
