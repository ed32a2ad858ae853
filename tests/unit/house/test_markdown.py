"""Markdown of the repository: width, links, and the modules that pages name."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FOLDERS = (
    "benchmarks", "charts", "docs", "events", "examples", "functions", "images", "keda", "knative",
    "router_model", "tests",
)  # fmt: skip
PAGES = [*ROOT.glob("*.md"), *(page for name in FOLDERS for page in (ROOT / name).rglob("*.md"))]
MAX_COLUMNS = 120


def test_no_line_is_wider_than_120_columns():
    """But tables, and lines of one word that cannot be broken (a link)."""
    wide = [
        f"{page.relative_to(ROOT)}:{number}: {len(line)}"
        for page in PAGES
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1)
        if len(line) > MAX_COLUMNS and not line.lstrip().startswith("|") and " " in line.strip("- ")
    ]
    assert not wide


def test_every_relative_link_of_the_documentation_leads_somewhere():
    broken = []
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", text):
            if "://" in target or target.startswith("mailto:"):
                continue
            path = (page.parent / target) if target else page
            if not path.exists() or (anchor and anchor not in anchors_of(path)):
                broken.append(f"{page.relative_to(ROOT)} -> {target}#{anchor}")
    assert not broken


def anchors_of(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


CITED = re.compile(r"docs/(?:adr|benchmarks|concepts|how-to|operations|reference)/[\w/-]+")


def test_every_page_that_code_cites_is_there():
    sources = [path for name in FOLDERS for path in (ROOT / name).rglob("*")]
    broken = [
        f"{path.relative_to(ROOT)}: {cited}"
        for path in sources
        if path.suffix in {".py", ".yaml", ".tpl"}
        for cited in CITED.findall(path.read_text(encoding="utf-8"))
        if not [*ROOT.glob(f"{cited}*")]
    ]
    assert not broken


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_every_module_that_a_map_of_the_code_names_is_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(
        r"`((?:events|router_model|functions|charts|keda|knative|tests)/[\w./-]*\w)`", text
    )
    assert len(named) > 20
    assert not [name for name in named if not (ROOT / name).exists()]
