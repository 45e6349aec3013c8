"""The tests themselves: helpers lie in tests/support, nothing private is imported, and every fixture has a user."""

import ast
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

HERE = Path(__file__).parent
TESTS = {path.relative_to(HERE).as_posix(): ast.parse(path.read_text()) for path in sorted(HERE.rglob("*.py"))}
OWN_MODULES = {"_extras", "_global_batch", "_interruption", "_lock", "_whole"}
"""Small modules of the package that are tested as they are; what they raise is looked for elsewhere too."""


def imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Modules and the names that are taken from them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, name.name) for name in node.names)
        elif isinstance(node, ast.Import):
            yield from ((name.name, "") for name in node.names)


def test_what_tests_share_is_imported_from_the_support():
    found = {(file, module) for file, tree in TESTS.items() for module, _ in imported(tree)}
    assert {(file, module) for file, module in found if (module + ".").startswith("tests.")} <= {
        (file, module) for file, module in found if (module + ".").startswith("tests.support.")
    }


def test_what_is_no_test_lies_in_the_support():
    names = [file.split("/")[-1] for file in TESTS if not file.startswith("support/")]
    assert {name for name in names if not name.startswith("test_")} == {"conftest.py"}


def test_no_private_name_of_the_package_is_imported():
    found = {
        (file, module, name)
        for file, tree in TESTS.items()
        for module, name in imported(tree)
        if module.split(".")[0] == "wmcomponents"
        and any(part.startswith("_") and part not in OWN_MODULES for part in (*module.split("."), name))
    }
    assert found == set()


def test_every_fixture_has_a_user():
    fixtures, used = {}, set()
    for file, tree in TESTS.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                marks = [ast.unparse(mark) for mark in node.decorator_list]
                if any(mark.startswith("pytest.fixture") and "autouse" not in mark for mark in marks):
                    fixtures[node.name] = file
                used |= {argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)}
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                used.add(node.value)  # usefixtures, getfixturevalue
    assert {name: file for name, file in fixtures.items() if name not in used} == {}


def test_a_warm_program_is_as_one_in_a_fresh_interpreter(warm, tmp_path):
    script = tmp_path / "program.py"
    script.write_text(
        "import multiprocessing, os, sys\n"
        "begun = sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'wmcomponents'})\n"
        "def answer(number):\n"
        "    return number + 1\n"
        "if __name__ == '__main__':\n"
        "    print(begun, sys.argv[1:], os.getcwd() == os.path.dirname(__file__) == sys.path[0])\n"
        "    print(multiprocessing.get_start_method(allow_none=True), sys.modules['__main__'].answer is answer)\n"
        "    sys.exit(int(sys.argv[1]))\n"
    )
    done = warm.run(script, 3, cwd=tmp_path)
    assert done == (3, "['torch'] ['3'] True\nNone True\n", "")
    assert warm.run(script, 0, cwd=tmp_path).returncode == 0
    failed = warm.run(script, "three", cwd=tmp_path)
    assert failed.returncode == 1 and "ValueError: invalid literal" in failed.stderr.splitlines()[-1]


class Worker:
    """What the scheduler knows of a worker: it is sent numbers of tests."""

    def __init__(self):
        self.queue, self.ran, self.shutting_down = [], [], False
        self.gateway = SimpleNamespace(id="one")

    def send_runtest_some(self, numbers):
        self.queue += numbers

    def shutdown(self):
        self.shutting_down = True


def test_a_file_whose_fixtures_are_made_once_is_run_by_one_worker_and_every_test_once(tmp_path):
    Producer = pytest.importorskip("xdist.remote").Producer
    from tests.support.scheduling import FileScheduling

    (tmp_path / "test_apart.py").write_text("@pytest.fixture\ndef thing(): ...\n")
    (tmp_path / "test_once.py").write_text('@pytest.fixture(scope="module")\ndef thing(): ...\n')
    tests = [f"test_apart.py::test_a[{n}::x]" for n in range(9)] + [f"test_once.py::test_b[{n}]" for n in range(4)]
    option = SimpleNamespace(loadscopereorder=True)
    config = SimpleNamespace(rootpath=tmp_path, option=option, getvalue=lambda name: ["popen", "popen"])
    plan, workers = FileScheduling(config, Producer("none", enabled=False)), [Worker(), Worker()]
    for worker in workers:
        plan.add_node(worker)
        plan.add_node_collection(worker, tests)
    plan.schedule()
    while plan.has_pending:
        worker = max(workers, key=lambda one: len(one.queue))
        worker.ran.append(tests[worker.queue[0]])
        plan.mark_test_complete(worker, worker.queue.pop(0))
    assert plan.tests_finished and all(worker.shutting_down for worker in workers)
    assert sorted(workers[0].ran + workers[1].ran) == sorted(tests)
    assert [{"once" in test for test in worker.ran[:4]} for worker in workers] == [{True}, {False}]
    assert plan.assigned_work == {worker: {} for worker in workers}
