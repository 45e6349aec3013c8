"""Damaged files of every source: each is read, or refused with one class; nothing else is raised, and nothing dies.

A seeded part runs in the suite. More of them::

    WMC_FUZZ=5000 python -m pytest -q tests/fuzz/test_data_sources.py
"""

import json
import os
from pathlib import Path

import pytest

pytest.importorskip("av")
pytest.importorskip("h5py")
pytest.importorskip("minari")
pytest.importorskip("pyarrow")
pytest.importorskip("tensorboard")

CASES = int(os.environ.get("WMC_FUZZ", 80))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="each part runs in a fork")
@pytest.mark.timeout(1800)
def test_every_damaged_file_is_read_or_refused_with_one_class(warm):
    done = warm.run(Path(__file__).parents[1] / "support" / "damaged.py", CASES)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == CASES
    assert [one for one in found if one[2] not in ("refused", "read True", "whole True")] == []
    assert sum(said == "whole True" for *_, said in found) == 12
    assert sum(said == "refused" for *_, said in found) > CASES // 5
