"""Griffe extension: docstrings are written for Python's own tools, and become Markdown while the site is built.

Sphinx roles become links, ``.. math::`` becomes formulas between ``\\[`` and ``\\]``, simple tables become Markdown's,
and an ``Example:`` becomes a block of code.
"""

import ast
import re
import textwrap
from collections.abc import Callable, Iterator

import griffe

Resolve = Callable[[str], str | None]
"""From what a role names to the full path of an object, or None where there is none."""

CODE = re.compile(r"(``.+?``)", re.S)
ROLE = re.compile(r":(?P<role>\w+):`(?P<target>[^`]+)`")
RULE = re.compile(r"^ *=+(?: +=+)+ *$")
PRODUCT = re.compile(r"(?<=[\w)])\*(?=[\w(])")
KEY_OR_SHAPE = re.compile(r'\[.*\]|"[^"`]*"|\(".*"\)')


def to_markdown(text: str, resolve: Resolve) -> str:
    """A docstring as Markdown. Examples stay as they are, for they are code."""
    text = re.sub(r"^(\s*)Example:$", r"\1Examples:", text, flags=re.M)
    text = re.sub(r"(?<=\n\n)>>> .*?(?=\n\n|\Z)", _example, text, flags=re.S)
    blocks = re.split(r"^((?: *)Examples:\n(?:(?: +[^\n]*)?(?:\n|\Z))*)", text, flags=re.M)
    blocks[::2] = [_roles(_cells(_tables(_math(block))), resolve) for block in blocks[::2]]
    return "".join(blocks)


def _example(match: re.Match) -> str:
    """Lines of a prompt without a heading."""
    return "Examples:\n" + textwrap.indent(match[0], "    ")


def _math(text: str) -> str:
    """Directives with their formula behind them, or indented below them."""
    lines, out = text.split("\n"), []
    while lines:
        line = lines.pop(0)
        head, directive, formula = line.partition(".. math::")
        if not directive:
            out.append(line)
            continue
        parts = [formula]
        while lines and len(lines[0]) - len(lines[0].lstrip()) > len(head):
            parts.append(lines.pop(0))
        tex = " ".join(" ".join(parts).split())
        tex = rf"\begin{{align*}} {tex} \end{{align*}}" if "&" in tex else tex
        out += [rf"{head}\[ {tex} \]"]
    return "\n".join(out)


def _tables(text: str) -> str:
    """Simple tables of reStructuredText: rules of ``=`` above and below the header, and at the end."""
    lines, out = text.split("\n"), []
    while lines:
        line = lines.pop(0)
        if not RULE.match(line):
            out.append(line)
            continue
        starts = [match.start() for match in re.finditer("=+", line)]
        spans = list(zip(starts, [*starts[1:], None], strict=True))
        indent = line[: starts[0]]
        rows: list[list[str]] = []
        while lines:
            row = lines.pop(0)
            if RULE.match(row):
                if not lines or not lines[0].strip():
                    break
                continue
            cells = [row[begin:end].strip().replace("|", r"\|") for begin, end in spans]
            if cells[0] or not rows:
                rows.append(cells)
            else:  # the row above goes on
                rows[-1] = [f"{above} {cell}".strip() for above, cell in zip(rows[-1], cells, strict=True)]
        rows.insert(1, ["---"] * len(spans))
        out += [f"{indent}| {' | '.join(cells)} |" for cells in rows]
    return "\n".join(out)


def _cells(text: str) -> str:
    """Keys and shapes in tables as code; a star anywhere else in a table is a star."""

    def cell(words: str) -> str:
        if KEY_OR_SHAPE.fullmatch(words):
            return f"`{words}`"
        return "".join(
            part if part.startswith("`") else part.replace("*", r"\*") for part in re.split("(`+[^`]*`+)", words)
        )

    def row(match: re.Match) -> str:
        cells = re.split(r"(?<!\\)\|", match["cells"])
        return f"{match['indent']}| {' | '.join(cell(words.strip()) for words in cells)} |"

    return re.sub(r"^(?P<indent> *)\| *(?P<cells>(?!-).*?) *\|$", row, text, flags=re.M)


def _roles(text: str, resolve: Resolve) -> str:
    def link(match: re.Match) -> str:
        target = " ".join(match["target"].split())
        if match["role"] == "math":
            return rf"\({target}\)"
        label = target.removeprefix("~").rpartition(".")[2] if target.startswith("~") else target
        path = resolve(target.removeprefix("~"))
        if path is None:
            return f"`{label}`"
        return f'<autoref identifier="{path}" optional><code>{label}</code></autoref>'

    parts = CODE.split(text)
    parts[::2] = [ROLE.sub(link, PRODUCT.sub(r"\\*", part)) for part in parts[::2]]
    return "".join(parts)


class Docstrings(griffe.Extension):
    """Rewrites every docstring of the package once it is loaded, and keeps the code without them."""

    def on_package(self, *, pkg: griffe.Module, **_: object) -> None:
        """All names are known now, so that roles find what they name."""
        objects = list(_below(pkg))
        known = {obj.path for obj in objects}
        for obj in objects:
            if obj.is_function:
                obj.extra["site"]["code"] = without_docstrings(obj.source)
            if obj.docstring:
                obj.docstring.value = to_markdown(
                    obj.docstring.value, lambda target, scope=obj: _resolved(target, scope, pkg, known)
                )


def without_docstrings(source: str) -> str:
    """Code as it is but for its docstrings, which stand above it on the page."""
    source = textwrap.dedent(source)
    lines: list[str | None] = list(source.splitlines())
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and ast.get_docstring(node):
            text = node.body[0]
            alone = len(node.body) == 1
            lines[text.lineno - 1 : text.end_lineno] = [None] * ((text.end_lineno or text.lineno) - text.lineno + 1)
            if alone:
                lines[text.lineno - 1] = " " * text.col_offset + "..."
    return "\n".join(line for line in lines if line is not None)


def _below(obj: griffe.Object) -> Iterator[griffe.Object]:
    yield obj
    for member in obj.members.values():
        if not member.is_alias:
            yield from _below(member)


def _resolved(target: str, scope: griffe.Object, package: griffe.Module, known: set[str]) -> str | None:
    """Looks in the object, in what holds it, in the package; last for the only object of that name."""
    target = target.removesuffix("()")
    holder: griffe.Object | None = scope
    while holder is not None:
        found = _member(holder, target)
        if found is not None:
            return found
        holder = holder.parent  # type: ignore[assignment]
    found = _member(package, target.removeprefix(f"{package.path}."))
    if found is not None:
        return found
    ends = {path for path in known if path.endswith(f".{target}")}
    return ends.pop() if len(ends) == 1 else None


def _member(holder: griffe.Object, target: str) -> str | None:
    """Full path of what is found below ``holder``, or None; also for what another library holds."""
    try:
        for name in target.split("."):
            inside = holder.all_members if holder.is_class else holder.members
            holder = _itself(inside[name])
        if holder.is_module and holder.name in holder.members:  # a module that bears its function's name
            holder = _itself(holder.members[holder.name])
    except (KeyError, griffe.AliasResolutionError, griffe.CyclicAliasError):
        return None
    return holder.canonical_path


def _itself(member: griffe.Object | griffe.Alias) -> griffe.Object:
    return member.final_target if member.is_alias else member  # type: ignore[return-value]
