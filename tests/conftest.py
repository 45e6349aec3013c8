"""Shared fixtures: reference vectors, seeds, Hypothesis profiles, and a quiet headless machine."""

import itertools
import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")

import numpy as np
import pytest
import torch
from gymnasium.spaces import Space
from hypothesis import HealthCheck, settings
from safetensors.torch import load_file
from torch import Tensor

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
    parser.addoption("--golden", metavar="DIR", default=None, help="folder with the reference vectors")
    parser.addoption("--weekly", action="store_true", help="run the full sweeps too (marker weekly)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--weekly"):
        sweeps = [item for item in items if "weekly" in item.keywords]
        config.hook.pytest_deselected(items=sweeps)
        items[:] = [item for item in items if "weekly" not in item.keywords]
    if torch.cuda.is_available():
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


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


@dataclass(frozen=True)
class Golden:
    """One reference vector: tensors computed by a paper's own code, and how they were made.

    Keys are prefixed: ``in/`` inputs, ``w/`` weights, ``out/`` outputs, ``grad/`` gradients.
    """

    name: str
    tensors: dict[str, Tensor]
    meta: dict[str, Any]

    def __getitem__(self, key: str) -> Tensor:
        return self.tensors[key]

    def under(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose key starts with ``prefix``, by the rest of their key."""
        return {key[len(prefix) :]: value for key, value in self.tensors.items() if key.startswith(prefix)}

    def assert_close(self, actual: Tensor, key: str, **tolerance: float) -> None:
        """Compare with the tensor at ``key`` at the tolerance stated in the vector's own json."""
        stated = self.meta.get("tolerance", {"rtol": 1e-5, "atol": 1e-6})
        tolerance = {"rtol": stated["rtol"], "atol": stated["atol"]} | tolerance
        expected = self.tensors[key]
        torch.testing.assert_close(
            actual.to(expected.dtype), expected, **tolerance, msg=lambda m: f"{self.name}: {key}: {m}"
        )


def golden_folders(config: pytest.Config) -> list[Path]:
    """Where reference vectors may lie, the most explicit place first."""
    stated = [config.getoption("--golden"), os.environ.get("WMC_GOLDEN")]
    usual = [ROOT.parent / "shared" / "golden", ROOT / "tests" / "golden"]
    return [path for path in [Path(text) for text in stated if text] + usual if path.is_dir()]


@pytest.fixture(scope="session")
def golden(pytestconfig: pytest.Config) -> Callable[[str], Golden]:
    """Load a reference vector by name: ``golden("v3_twohot")``; skips the test where the vector is absent."""
    folders = golden_folders(pytestconfig)

    def load(name: str) -> Golden:
        for folder in folders:
            for description in sorted(folder.rglob(f"{name}.json")):
                weights = description.with_suffix(".safetensors")
                tensors = load_file(weights) if weights.exists() else {}
                return Golden(name, tensors, json.loads(description.read_text()))
        pytest.skip(
            f"reference vector {name!r} not found in {[str(f) for f in folders] or 'any known folder'}; "
            f"point $WMC_GOLDEN or --golden at the folder that holds it"
        )

    return load


@pytest.fixture(autouse=True)
def _own_compiler_cache(request: pytest.FixtureRequest) -> None:
    """A test that compiles begins with an empty cache: one function compiled for many models soon reaches its limit."""
    if request.node.get_closest_marker("compile") is not None:
        torch._dynamo.reset()
