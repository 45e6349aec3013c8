"""The code of every page: it is Python, what it imports exists, its commands are understood, and it runs."""

import ast
import importlib
import re
import shlex

import pytest

from tests.support.pages import PAGES, ROOT, blocks, commands, name
from wmcomponents.cli import COMMANDS, named, parsed

WITH_CODE = [page for page in PAGES if blocks(page, "python") and page != ROOT / "README.md"]
WITH_COMMANDS = [page for page in PAGES if any(line.startswith("wmc ") for line in commands(page, everything=True))]
LONG = {"mbpo_pendulum", "morel_pendulum"}  # a minute each: tests/end_to_end/test_offline_examples.py runs them small
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.py") if path.stem not in LONG)


@pytest.mark.parametrize("page", WITH_CODE, ids=name)
def test_blocks_are_python_and_import_what_exists(page):
    for block in blocks(page, "python", everything=True):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("wmcomponents"):
                module = importlib.import_module(str(node.module))
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == [], node.module


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name)
def test_commands_are_understood(page):
    pytest.importorskip("tyro")
    for line in commands(page, everything=True):
        program, *arguments = shlex.split(line)
        if program != "wmc" or not arguments:
            continue
        command, options = named(arguments)
        if command in COMMANDS:
            parsed(COMMANDS[command], options)  # exits if it does not understand


def daily(page):
    """The page's code with a tenth of the learning, where a model or an agent is taught for 300 steps or more."""

    def tenth(found):
        return f"{found[1]}{int(found[2]) // 10 if int(found[2]) >= 300 else found[2]}"

    return re.sub(r"(\b(?:trainer\.train|learn)\()(\d[\d_]*)", tenth, "\n".join(blocks(page, "python")))


def weekly(page):
    """All of the page's code, as it stands there."""
    return "\n".join(blocks(page, "python", weekly=True))


RUN = [page for page in WITH_CODE if page.name != "index.md"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", RUN, ids=name)
def test_a_page_runs_from_top_to_bottom(page, run_code):
    run_code(daily(page))


@pytest.mark.weekly
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", [page for page in RUN if weekly(page) != daily(page)], ids=name)
def test_a_page_runs_with_what_takes_long(page, run_code):
    run_code(weekly(page))


def test_bringing_a_model_takes_at_most_40_lines():
    assert len((ROOT / "examples" / "bring_your_own_model.py").read_text().splitlines()) <= 40


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_runs(example, run_code):
    assert run_code(example.read_text())


def test_the_learned_example_keeps_the_protocol(monkeypatch):
    from torchrl.data import Bounded, Composite, Unbounded

    from wmcomponents.testing import check_world_model

    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    example = importlib.import_module("train_your_own_model")
    model = example.Residual(example.ResidualConfig(), Composite(observation=Unbounded(3)), Bounded(-1, 1, (1,)))
    assert check_world_model(model).held


def test_the_files_that_pages_name_are_there():
    known = [
        f"/{path.relative_to(ROOT)}"
        for folder in ("wmcomponents", "tests", "examples", "docs", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
    ]
    missing = []
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        named = re.findall(r"`([\w./-]+\.py)`", page.read_text())
        missing += [(name(page), file) for file in named if not any(path.endswith(f"/{file}") for path in known)]
    assert missing == []
