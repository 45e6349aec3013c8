"""The tests themselves: helpers lie in tests/support, nothing private is imported, and every fixture has a user."""

import ast
from collections.abc import Iterator
from pathlib import Path

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
