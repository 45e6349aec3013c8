"""The conformance kit is not tested under run-time type checks."""

from pathlib import Path

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--jaxtyping-packages", None):
        return
    # beartype looks at a random entry of each container: every checked call moves Python's global generator.
    skip = pytest.mark.skip(reason="beartype draws from the random module, which conforming models must not do")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(skip)
