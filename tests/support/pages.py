"""The code in the documentation: blocks by page, as a reader would type them one after the other."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(
    r"(?:<!-- (?P<mark>not run|run weekly):[^\n]*-->\n+)?```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^```", re.M | re.S
)
SNIPPET = re.compile(r'^--8<-- "(?P<path>[^":]+)(?::(?P<section>\w+))?"$', re.M)


def blocks(page: Path, language: str, *, everything: bool = False, weekly: bool = False) -> list[str]:
    """The page's blocks in one language, snippets filled in.

    Args:
        page: a Markdown file.
        language: what stands behind the fence.
        everything: also those under ``<!-- not run: why -->`` and ``<!-- run weekly: why -->``.
        weekly: also the latter.
    """
    marks = (None, "run weekly") if weekly else (None,)
    found = BLOCK.finditer(SNIPPET.sub(_filled, page.read_text()))
    return [
        block["code"] for block in found if block["language"] == language and (everything or block["mark"] in marks)
    ]


def commands(page: Path, *, everything: bool = False) -> list[str]:
    """The lines of the page's shell blocks, continued lines joined, comments and prompts taken off."""
    lines = "\n".join(blocks(page, "bash", everything=everything)).replace("\\\n", " ").splitlines()
    stripped = [line.split("  #")[0].strip() for line in lines]
    return [line for line in stripped if line and not line.startswith("#")]


def name(page: Path) -> str:
    """The page's path below the repository."""
    return str(page.relative_to(ROOT))


def hook(name: str) -> ModuleType:
    """A hook of the site's builder as a module."""
    spec = importlib.util.spec_from_file_location(f"hook_{name}", ROOT / "docs" / "_hooks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rooms() -> list[list[str]]:
    """The layers of the house, the highest first, as the contract of the imports has them."""
    text = (ROOT / "pyproject.toml").read_text()
    layers = re.search(r"^layers = \[(.*?)^\]", text, re.M | re.S)[1]
    return [re.findall(r"\((\w+)\)", line) for line in layers.splitlines() if "(" in line]


def _filled(match: re.Match) -> str:
    text = (ROOT / match["path"]).read_text()
    if match["section"]:
        edges = [rf"[^\n]*--8<-- \[{edge}:{match['section']}\][^\n]*\n" for edge in ("start", "end")]
        text = re.search(f"{edges[0]}(.*?){edges[1]}", text, re.S)[1]
    return text.rstrip("\n")
