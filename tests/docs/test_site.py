"""The site as a reader's browser gets it.

``make check`` builds it and has it read here (``WMC_SITE`` says where it lies); in the weekly run it is built for that.
"""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import wmcomponents
from tests.support.pages import ROOT

pytest.importorskip("mkdocs")
pytestmark = [pytest.mark.slow, pytest.mark.weekly]

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "link": "href"}


def build(config: Path, out: Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(out)]
    return subprocess.run(command, cwd=config.parent, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    if "WMC_SITE" in os.environ:
        return Path(os.environ["WMC_SITE"]).resolve()
    out = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", out)
    assert done.returncode == 0, done.stderr[-4000:]
    return out


class Words(HTMLParser):
    """The text of a page outside of code and scripts, and what a browser loads with it."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.words: list[str] = []
        self.loaded: list[str] = []
        self.inside: list[str] = []
        self.feed(page.read_text())

    def handle_starttag(self, tag, attrs):
        if tag in ("pre", "code", "script", "style"):
            self.inside.append(tag)
        given = dict(attrs)
        if tag in LOADED and given.get(LOADED[tag]) and given.get("rel") != "canonical":
            self.loaded.append(given[LOADED[tag]])

    def handle_endtag(self, tag):
        if self.inside and tag == self.inside[-1]:
            self.inside.pop()

    def handle_data(self, data):
        if not self.inside:
            self.words.append(data)


@pytest.fixture(scope="module")
def pages(site) -> dict[str, Words]:
    return {str(page.relative_to(site)): Words(page) for page in sorted(site.rglob("*.html"))}


@pytest.mark.parametrize(
    "raw",
    [
        r":(?:class|func|meth|attr|data|mod|math|exc|obj):",
        r"\.\. \w+::",
        r"={4,}",
        r"\\[(\[]|\\[A-Za-z]{2,}",
        r">>>",
        r"\|\s*-{3}",
        r"\{\{|--8<--",
    ],
    ids=["role", "directive", "rule of a table", "formula", "prompt", "Markdown table", "template"],
)
def test_nothing_stands_raw_on_a_page(pages, raw):
    found = {name: re.findall(f".*?{raw}.*", "".join(page.words))[:3] for name, page in pages.items()}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_a_page_loads_nothing_from_elsewhere(site, pages):
    outside = {name: [url for url in page.loaded if re.match(r"(?:https?:)?//", url)] for name, page in pages.items()}
    assert {name: urls for name, urls in outside.items() if urls} == {}
    sheets = {
        str(sheet): re.findall(r"url\((?:https?:)?//[^)]*\)|@import[^;]*", sheet.read_text())
        for sheet in site.rglob("*.css")
    }
    assert {name: urls for name, urls in sheets.items() if urls} == {}
    # The theme fetches a library for diagrams only where a page has such a block.
    assert not [name for name, page in pages.items() if 'class="mermaid"' in (site / name).read_text()]


def test_roles_lead_to_the_objects_they_name(site):
    text = (site / "reference/api/evaluation/index.html").read_text()
    link = re.search(r'<a class="autorefs autorefs-internal"[^>]*href="([^"]*)"><code>open_loop</code>', text)
    assert link and f'id="{link[1].lstrip("#")}"' in text


def test_formulas_and_examples_are_drawn(site):
    text = (site / "reference/api/functional/index.html").read_text()
    assert text.count("<math") > 20 and "<mtext>KL</mtext>" in text and "<mtable" in text
    assert '<span class="gp">&gt;&gt;&gt; </span>' in text and "<blockquote>" not in text


def test_every_page_tells_the_version_and_the_sidebar_tells_modules_apart(site):
    home = (site / "index.html").read_text()
    assert f"wmcomponents {wmcomponents.__version__}" in home and '"install/"' in home and '"about/' in home
    text = (site / "reference/api/nn/index.html").read_text()
    names = re.findall(r'<span class="md-ellipsis">\s*([\w.]+)', text)
    assert {"integrations.sb3", "integrations.gymnasium", "nn"} <= set(names)


def test_a_broken_link_fails_the_build(tmp_path):
    config = (ROOT / "mkdocs.yml").read_text()
    keep = config[: config.index("hooks:")] + config[config.index("markdown_extensions:") :]
    (tmp_path / "mkdocs.yml").write_text(keep.replace("extra_css:\n  - stylesheets/site.css\n", ""))
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "index.md"
    page.write_text("# Page\n\n[there](index.md)\n")
    assert build(tmp_path / "mkdocs.yml", tmp_path / "site").returncode == 0
    page.write_text("# Page\n\n[nowhere](nowhere.md)\n")
    broken = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert broken.returncode != 0 and "nowhere.md" in broken.stderr
    # and what a pull request must pass shows it
    assert re.search(r"mkdocs build --strict$", (ROOT / "Makefile").read_text(), re.M)
