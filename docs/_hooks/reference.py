"""MkDocs hook: one reference page for each public module of the package, and the order of the sections.

The pages are written while the site is built, so none can be missing or stale.
"""

import ast
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation, Section

PACKAGE = Path(__file__).resolve().parents[2] / "wmcomponents"
SECTIONS = ["tutorials", "how-to", "reference", "explanation", "benchmarks", "about"]


APART = ("models/loading.py", "models/official.py")
"""Modules that know every family by name; ``models`` itself does not pass on what they hold."""


OPEN = ("agents", "integrations")
"""Rooms that pass on nothing, since each of their modules asks for libraries or parts of its own."""


def sources() -> dict[str, Path]:
    """Public modules by dotted name: each package and each module at the top, and what stands apart.

    A room of :data:`OPEN` has a page for each module and package in it, and none while there is nothing in it.
    """
    paths = [PACKAGE / name for name in APART if (PACKAGE / name).is_file()]
    for top in modules(PACKAGE):
        is_open = top.name == "__init__.py" and top.parent.name in OPEN
        below = modules(top.parent) if is_open else []
        paths += [] if is_open and not below else [top, *below]
    found = {}
    for path in paths:
        module = path.parent if path.name == "__init__.py" else path.with_suffix("")
        found[".".join(module.relative_to(PACKAGE.parent).parts)] = path
    return found


def modules(folder: Path) -> list[Path]:
    """The public modules and packages in a folder."""
    paths = sorted([*folder.glob("*.py"), *folder.glob("*/__init__.py")])
    return [path for path in paths if not (path.stem if path.parent == folder else path.parent.name).startswith("_")]


def reexports(path: Path) -> dict[str, str]:
    """What a module imports as itself, ``from .rssm import RSSM as RSSM``: the module each name comes from, by name."""
    statements = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ImportFrom)]
    package = ".".join(path.parent.relative_to(PACKAGE.parent).parts)
    found = {}
    for node in statements:
        origin = f"{package}.{node.module}" if node.level else str(node.module)
        found |= {name.name: origin for name in node.names if name.asname == name.name}
    return found


def outside(name: str, origin: str) -> str | None:
    """The library a name is passed on from, as ``module.name``, or None where it is this package's own."""
    if origin.split(".")[0] != PACKAGE.name:
        return f"{origin}.{name}"
    path = PACKAGE.parent.joinpath(*origin.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    further = reexports(path).get(name)
    return outside(name, further) if further else None


def page(dotted: str, path: Path) -> str:
    """Markdown of one page; mkdocstrings replaces each ``:::``.

    The sidebar has no room for the package's name on every line.
    """
    short = dotted.removeprefix(f"{PACKAGE.name}.")
    bare = "    options:\n      show_root_heading: false\n      show_root_toc_entry: false\n"
    text = f"---\ntitle: {short}\n---\n\n# `{dotted}`\n\n::: {dotted}\n{bare}"
    if path.name != "__init__.py":
        return text
    for name, origin in sorted(reexports(path).items()):
        borrowed = outside(name, origin)
        if borrowed:
            text += f"\n## `{name}`\n\nThe same object as `{borrowed}`.\n"
            continue
        # A function that bears its module's name: the public path would show the module.
        home = origin if origin == f"{dotted}.{name}" else dotted
        text += f"\n::: {home}.{name}\n"
    return text


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for dotted, path in sorted(sources().items()):
        uri = f"reference/api/{dotted.removeprefix(PACKAGE.name + '.')}.md"
        files.append(File.generated(config, uri, content=page(dotted, path)))
    return files


def on_nav(nav: Navigation, config: MkDocsConfig, files: Files) -> Navigation:
    """Order the sections as a reader meets them; without a nav MkDocs sorts them by name."""

    def place(item: object) -> int:
        folders = [below.file.src_uri.split("/")[0] for below in pages_of(item)]
        return next((SECTIONS.index(folder) + 1 for folder in folders if folder in SECTIONS), 0)

    nav.items.sort(key=place)
    for section in sections_of(nav.items):
        section.title = {"Api": "API"}.get(section.title, section.title)
    return nav


def sections_of(items: list) -> list[Section]:
    """The sections at and below navigation items."""
    here = [item for item in items if isinstance(item, Section)]
    return here + [section for item in here for section in sections_of(item.children)]


def pages_of(item: object) -> list:
    """The pages at and below a navigation item."""
    if isinstance(item, Section):
        return [below for child in item.children for below in pages_of(child)]
    return [item] if hasattr(item, "file") else []
