"""Code of the documentation runs as a reader's would: in a process and a folder of its own."""

import pytest


@pytest.fixture
def run_code(tmp_path, warm):
    """Run Python code in an empty folder; returns what it printed."""

    def run(code: str) -> str:
        script = tmp_path / "page.py"
        script.write_text(code)
        done = warm.run(script, cwd=tmp_path)
        assert done.returncode == 0, f"the code failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    return run
