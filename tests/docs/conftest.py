"""Code of the documentation runs as a reader's would: in a process and a folder of its own."""

import os
import subprocess
import sys

import pytest

from tests.support.pages import ROOT


@pytest.fixture
def run_code(tmp_path):
    """Run Python code in an empty folder; returns what it printed."""

    def run(code: str) -> str:
        script = tmp_path / "page.py"
        script.write_text(code)
        paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
        done = subprocess.run(
            [sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"the code failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    return run
