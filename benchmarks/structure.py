"""What the source looks like, counted: rooms, imports, lengths, branches, shapes, names. No code is run.

python -m benchmarks.structure            counts this tree
python -m benchmarks.structure BEFORE     counts a folder or git revision beside it and writes the page and its JSON
"""

import argparse
import ast
import json
import re
import subprocess
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

PACKAGE = "wmcomponents"
ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs" / "benchmarks" / "structure.json"
BRANCHES = (
    ast.If,
    ast.IfExp,
    ast.For,
    ast.While,
    ast.ExceptHandler,
    ast.Assert,
    ast.comprehension,
    ast.match_case,
)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
SHAPE = re.compile(r"``?[A-Za-z_ ]*[\[(][^`\]]*[A-Z*].*?[\])]``?|\(\)|no shape")
OLD_NAMES = {
    "describe_observation(s)": r"\bdescribe_observations?\b",
    "LayerMemory, empty_memory": r"\b(LayerMemory|empty_memory)\b",
    "Place, Window (of a cache)": r"\b(Place|Window)\(",
    "extend, make_room, said, speaking, acting": r"\b(make_room|speaking|acting)\b(?= ?[=:(])|def (extend|said)\b",
    "RememberingModel": r"\bRememberingModel\b",
    "imagine_donated, donate": r"\b(imagine_donated|donates?|donated)\b",
    "Ahead, ahead": r"\bAhead\b|\bahead\(",
    "Spread, SoftplusSpread": r"\b\w*Spread\b|\bspread=",
    "growth": r"\b(Growth|growth|growth_channels|\w+_growth)\b",
    "RewardKind, PolicyCode, ActionCode": r"\b(RewardKind|PolicyCode|ActionCode)\b",
    "Cooling, row_shares, AsItIs": r"\b(Cooling|row_shares|AsItIs)\b",
    "tell_story": r"\b(tell_story|evaluation\.story)\b",
    "clauses, players, Situation, awake": r"\btesting[./](clauses|players)\b|\b(Situation|awake)\b",
    "picture": r"(?i)picture",
    "self_key, pick, _HURRY, pay, fatal": r"\b(self_key|_HURRY)\b|\b(pick|pay|fatal)\b ?[=,(]",
    "names of torch.nn": r"^class (Identity|Tanh|LayerNorm|LSTM|Transformer)\b",
}
"""Names that were given up, and how to find them in source."""


@dataclass(frozen=True)
class Block:
    """One function, counted.

    Attributes:
        where: file and name.
        lines: from its first line to its last.
        complexity: branches and one (McCabe).
        takes_tensors: whether it is public and an argument is a tensor.
        has_shapes: whether their shapes are told, by annotation or in the docstring.
    """

    where: str
    lines: int
    complexity: int
    takes_tensors: bool
    has_shapes: bool


def sources(tree: Path) -> dict[str, str]:
    """The package's files, by their paths below it."""
    base = tree / PACKAGE
    found = sorted(path for path in base.rglob("*.py") if not any(part.is_symlink() for part in (path, *path.parents)))
    return {path.relative_to(base).as_posix(): path.read_text() for path in found}


def complexity(node: ast.AST) -> int:
    """Branches of a function and one; functions within it count for themselves."""
    count, waiting = 1, list(ast.iter_child_nodes(node))
    while waiting:
        child = waiting.pop()
        if isinstance(child, FUNCTIONS):
            continue
        count += isinstance(child, BRANCHES)
        count += len(child.values) - 1 if isinstance(child, ast.BoolOp) else 0
        waiting += ast.iter_child_nodes(child)
    return count


def blocks(files: dict[str, str]) -> Iterator[Block]:
    """Every function and method."""
    for path, text in files.items():
        tree = ast.parse(text)
        for owner, node in _functions(tree, ()):
            names = [*owner, node.name]
            is_public = not any(name.startswith("_") for name in (*names, *path.removesuffix(".py").split("/")[:-1]))
            end = node.end_lineno or node.lineno
            yield Block(
                where=f"{path}:{'.'.join(names)}",
                lines=end - node.lineno + 1,
                complexity=complexity(node),
                takes_tensors=is_public and any("Tensor" in note for note in _annotations(node)),
                has_shapes=_has_shapes(node),
            )


def _functions(node: ast.AST, owner: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], ast.FunctionDef]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef):
            yield owner, child
            yield from _functions(child, (*owner, "_" + child.name))
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, (*owner, child.name))
        elif not isinstance(child, ast.expr):
            yield from _functions(child, owner)


def _annotations(node: ast.FunctionDef) -> list[str]:
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
    notes = [ast.unparse(each.annotation) for each in arguments if each is not None and each.annotation is not None]
    return [note for note in notes if re.search(r"\bTensor\b", note)]


def _has_shapes(node: ast.FunctionDef) -> bool:
    shaped = re.compile(r"\b(Float|Int|Bool|UInt8|Num|Shaped|Integer|Real|Inexact)\[")
    notes = _annotations(node)
    return (
        bool(notes) and all(shaped.search(note) for note in notes) or bool(SHAPE.search(ast.get_docstring(node) or ""))
    )


def rooms(files: dict[str, str]) -> dict[str, dict[str, int]]:
    """Entries of each room and imports between them: what must be looked through to find one's way in it."""
    found: dict[str, dict[str, int]] = {}
    folders = {path.rpartition("/")[0] for path in files if "/" in path}
    for folder in sorted(folders):
        inside = {
            path[len(folder) + 1 :].split("/")[0].removesuffix(".py") for path in files if path.startswith(folder + "/")
        }
        inside.discard("__init__")
        dotted = f"{PACKAGE}.{folder.replace('/', '.')}"
        pairs = set()
        for path, text in files.items():
            if not path.startswith(folder + "/") or path == f"{folder}/__init__.py":
                continue
            own = path[len(folder) + 1 :].split("/")[0].removesuffix(".py")
            for module in _imported(text):
                if module.startswith(dotted + "."):
                    other = module[len(dotted) + 1 :].split(".")[0]
                    if other in inside and other != own:
                        pairs.add((own, other))
        found[folder] = {"entries": len(inside), "imports": len(pairs)}
    return found


def _imported(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def counted(tree: Path) -> dict:
    """Everything that is counted of one tree."""
    files = sources(tree)
    every = list(blocks(files))
    longest_file = max(files, key=lambda path: files[path].count("\n"))
    longest = max(every, key=lambda block: block.lines)
    hardest = max(every, key=lambda block: block.complexity)
    tensors = [block for block in every if block.takes_tensors]
    above = [block for block in every if block.complexity > 10]
    names = Counter()
    for label, pattern in OLD_NAMES.items():
        names[label] = sum(len(re.findall(pattern, text, re.M)) for text in files.values())
    return {
        "files": len(files),
        "lines": sum(text.count("\n") for text in files.values()),
        "files_above_300": sum(text.count("\n") > 300 for text in files.values()),
        "longest_file": [longest_file, files[longest_file].count("\n")],
        "functions": len(every),
        "longest_function": [longest.where, longest.lines],
        "complexity_above_10": len(above),
        "complexity_above_10_percent": round(100 * len(above) / len(every), 2),
        "complexity_above_20": sum(block.complexity > 20 for block in every),
        "hardest_function": [hardest.where, hardest.complexity],
        "take_tensors": len(tensors),
        "with_shapes_percent": round(100 * sum(block.has_shapes for block in tensors) / max(1, len(tensors)), 1),
        "old_names": {label: count for label, count in names.items()},
        "rooms": rooms(files),
    }


def at(revision: str) -> dict:
    """:func:`counted` of a folder or of a git revision."""
    if Path(revision).is_dir():
        return counted(Path(revision))
    data = subprocess.run(["git", "archive", revision, PACKAGE], cwd=ROOT, capture_output=True, check=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=BytesIO(data)) as archive:
            archive.extractall(folder, filter="data")
        return counted(Path(folder))


WHOLE = {
    "files": "files",
    "lines": "lines",
    "files_above_300": "files above 300 lines",
    "longest_file": "longest file",
    "functions": "functions",
    "longest_function": "longest function, lines",
    "complexity_above_10": "functions of complexity above 10",
    "complexity_above_10_percent": "the same, %",
    "complexity_above_20": "of complexity above 20",
    "hardest_function": "highest complexity",
    "take_tensors": "public functions that take tensors",
    "with_shapes_percent": "of them with shapes, %",
}
"""What is counted of the source as a whole, and what it is called in the table."""

TABLES = {"whole": "The source as a whole", "rooms": "Rooms", "names": "Names that were given up"}
LEADS = {
    "whole": "Complexity is McCabe's: branches of a function, and one.",
    "rooms": (
        "What lies in a room side by side, and how many imports tie these entries to each other: what must be looked "
        "through to find one's way in it. An entry is a file or a folder."
    ),
    "names": "How often each stands in the package's source: in code, docstrings, comments and errors.",
}


def tables(before: dict | None, now: dict) -> dict[str, str]:
    """Markdown tables of one or two counts, by the names of :data:`TABLES`."""
    columns = [each for each in (before, now) if each is not None]
    rows = {
        "whole": [[label, *(_cell(each[key]) for each in columns)] for key, label in WHOLE.items()],
        "rooms": [
            [f"`{room}/`", *(_room(each["rooms"].get(room)) for each in columns)]
            for room in sorted({room for each in columns for room in each["rooms"]})
        ],
        "names": [[name, *(str(each["old_names"][name]) for each in columns)] for name in now["old_names"]],
    }
    first = {"whole": "", "rooms": "room: entries, imports", "names": "uses of"}
    when = ["before", "now"][-len(columns) :]
    return {
        name: "\n".join(
            "| " + " | ".join(row) + " |" for row in [[first[name], *when], ["---"] * (1 + len(when)), *found]
        )
        for name, found in rows.items()
    }


def _cell(value: int | float | list) -> str:
    return f"{value[1]:,} (`{value[0]}`)" if isinstance(value, list) else f"{value:,}"


def _room(found: dict[str, int] | None) -> str:
    return "-" if found is None else f"{found['entries']}, {found['imports']}"


def page(found: dict) -> str:
    """Markdown of a comparison, as it stands in the JSON."""
    before, now = found["before"], found["now"]
    parts = [
        "# Structure",
        "How the source was laid out before it got its second layout, and how it is now. "
        "[Decisions](../explanation/decisions.md) says why; the raw figures: [structure.json](structure.json).",
        "\n".join(f"- {line}" for line in _opening(before, now)),
    ]
    parts += [f"## {TABLES[name]}\n\n{LEADS[name]}\n\n{text}" for name, text in tables(before, now).items()]
    parts.append(
        "## How it was counted\n\n"
        f"`python -m benchmarks.structure {before['revision']}` reads the source of both revisions and runs none of "
        "it. A function has shapes if all its tensors are annotated with them, or if its docstring states one, as "
        "``[*B, F]``."
    )
    return "\n\n".join(parts) + "\n"


def _opening(before: dict, now: dict) -> Iterator[str]:
    for room in ("models", "nn", "dynamics", "objectives"):
        was, is_ = before["rooms"][room], now["rooms"][room]
        yield (
            f"**`{room}/`**: {is_['entries']} entries tied by {is_['imports']} imports, "
            f"of {was['entries']} by {was['imports']}."
        )
    yield (
        f"**Shapes** are told by {now['with_shapes_percent']:.0f} % of the public functions that take tensors, "
        f"of {before['with_shapes_percent']:.0f} %."
    )
    yield (
        f"**Complexity** is above 10 in {now['complexity_above_10_percent']} % of functions, "
        f"of {before['complexity_above_10_percent']} %, and above 20 in {now['complexity_above_20']}, "
        f"of {before['complexity_above_20']}."
    )
    left, was = sum(now["old_names"].values()), sum(before["old_names"].values())
    yield f"**Names** that were given up stand {left} times in the source, of {was}."


def main() -> None:
    """Count, print, and with a revision to compare with write the page and its JSON."""
    parser = argparse.ArgumentParser(description="count what the source looks like")
    parser.add_argument("before", nargs="?", help="a git revision or folder to count beside this tree")
    parser.add_argument("--functions", action="store_true", help="list what is above 10 branches or lacks shapes")
    given = parser.parse_args()
    if given.functions:
        for block in blocks(sources(ROOT)):
            if block.complexity > 10:
                print(f"complexity {block.complexity}  {block.where}")
            if block.takes_tensors and not block.has_shapes:
                print(f"no shapes  {block.where}")
        return
    now, before = counted(ROOT), at(given.before) if given.before else None
    if before is not None:
        found = {"before": {"revision": given.before, **before}, "now": now}
        OUT.write_text(json.dumps(found, indent=1) + "\n")
        OUT.with_suffix(".md").write_text(page(found))
    print(*tables(before, now).values(), sep="\n\n")


if __name__ == "__main__":
    main()
