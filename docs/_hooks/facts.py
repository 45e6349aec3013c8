"""MkDocs hook: what pyproject.toml knows already (version, repository) is not written a second time."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig

PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


def entry(name: str) -> str | None:
    """A text of pyproject.toml, by the name at the start of its line. Python 3.10 has no reader of TOML."""
    found = re.search(rf'^{name} = "(.*?)"', PROJECT.read_text(), re.M)
    return found[1] if found else None


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The version stands in the footer of every page; the repository in its head, where the project names one."""
    config.copyright = f"{entry('name')} {entry('version')}, licence {entry('license')}"
    config.repo_url = entry("Repository") or config.repo_url
    return config


def on_page_markdown(markdown: str, **_: object) -> str:
    """``{{ version }}`` on a page is the version."""
    return markdown.replace("{{ version }}", str(entry("version")))
