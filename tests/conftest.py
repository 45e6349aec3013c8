"""Shared fixtures: seeds, Hypothesis profiles, and a quiet headless machine."""

import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
# A pool of compilers takes longer to start than the few kernels of a test take to compile.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")

import numpy as np
import pytest
import torch
from gymnasium.spaces import Space
from hypothesis import HealthCheck, settings

from tests.support.warm import Warm

ROOT = Path(__file__).resolve().parents[1]

# A shell starts what runs in its background with Ctrl-C ignored, and whatever that starts; tests send it themselves.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The models under test are small: a second thread costs more in hand-over than it computes.
torch.set_num_threads(int(os.environ.get("WMC_TEST_THREADS", "1")))

# Fixed examples: whether a change passes must not depend on luck. HYPOTHESIS_PROFILE=explore draws new ones each time.
settings.register_profile(
    "fixed", deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
settings.register_profile("explore", parent=settings.get_profile("fixed"), derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--weekly", action="store_true", help="run the full sweeps too (marker weekly)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--weekly"):
        sweeps = [item for item in items if "weekly" in item.keywords]
        config.hook.pytest_deselected(items=sweeps)
        items[:] = [item for item in items if "weekly" not in item.keywords]
    if hasattr(config, "workerinput"):  # with several workers: none of them ends with a long test
        items.sort(key=lambda item: "slow" not in item.keywords)
    if torch.cuda.is_available():
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log) -> object:
    """With ``--dist loadgroup`` tests that share what was made once share a worker."""
    if config.getvalue("dist") == "loadgroup":
        from tests.support.scheduling import FileScheduling

        return FileScheduling(config, log)


@pytest.fixture(autouse=True)
def _seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test starts from the same global random state, whatever ran before it; unseeded spaces sample the same."""
    torch.manual_seed(0)
    np.random.seed(0)
    seeds = itertools.count()

    def np_random(space: Space) -> np.random.Generator:
        if space._np_random is None:
            space.seed(next(seeds))
        return space._np_random

    monkeypatch.setattr(Space, "np_random", property(np_random))


@pytest.fixture(autouse=True)
def _own_compiler_cache(request: pytest.FixtureRequest) -> None:
    """A test that compiles begins with an empty cache: one function compiled for many models soon reaches its limit."""
    if request.node.get_closest_marker("compile") is not None:
        torch._dynamo.reset()


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """Runs programs in processes of their own that begin with the libraries of others imported."""
    process = Warm()
    yield process
    process.close()
