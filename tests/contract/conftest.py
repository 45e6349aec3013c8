"""The models under contract as a fixture: all of them where a family is tried, some where what families share is."""

import pytest

from tests.support.models import ADAPTED, CALLED, COMPILED, MODELS, OTHER_OBSERVATIONS, VARIANTS

ADAPTERS = ("test_gymnasium", "test_sb3", "test_torchrl")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "model" not in metafunc.fixturenames:
        return
    names = frozenset(name for name, _ in MODELS)
    module = metafunc.module.__name__.rpartition(".")[2]
    marks = {mark.name for mark in metafunc.definition.iter_markers()}
    if module in ADAPTERS:
        names = ADAPTED
    elif module == "test_calls":
        names = CALLED
    elif {"compile", "slow"} <= marks:
        names = COMPILED
    elif "compile" in marks or module == "test_noise":
        names -= VARIANTS
    elif module == "test_dream":
        names -= OTHER_OBSERVATIONS
    weekly = metafunc.config.getoption("--weekly")
    chosen = [pytest.param(build, id=name) for name, build in MODELS if weekly or name in names]
    metafunc.parametrize("model", chosen, indirect=True)


@pytest.fixture
def model(request):
    return request.param()
