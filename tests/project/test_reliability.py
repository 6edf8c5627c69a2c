"""docs/reliability.md quotes figures that its pages hold, and sanity tests that run in every build."""

import re

from tallymark.patterns import DBT_PROJECT
from tallymark.settings import PROJECT_ROOT

PAGE = PROJECT_ROOT / "docs" / "reliability.md"


def test_sanity_tests_exist():
    named = re.findall(r"`(\w+)` in every build", PAGE.read_text())
    assert named
    for test in named:
        assert (DBT_PROJECT / "tests" / f"{test}.sql").exists(), test


def test_figures_match_their_pages():
    figures = re.findall(r"^\| (.*) \| (\d+) \| `make [a-z-]+` \| \[.*\]\((.*)\) \|$", PAGE.read_text(), re.MULTILINE)
    assert len(figures) > 5
    for what, figure, page in figures:
        assert re.search(rf"\b{figure}\b", (PAGE.parent / page).read_text()), what
