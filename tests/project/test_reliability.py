"""docs/reliability.md names tests that are there, and figures that its pages hold."""

import re

from tallymark.patterns import DBT_PROJECT
from tallymark.settings import PROJECT_ROOT

PAGE = PROJECT_ROOT / "docs" / "reliability.md"


def test_the_tests_that_keep_a_promise_are_there():
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", PAGE.read_text())
    assert len(named) > 50
    for file, test in named:
        [path] = (PROJECT_ROOT / "tests").rglob(file)
        assert re.search(rf"^def {test}\(", path.read_text(), re.MULTILINE), test
    for test in re.findall(r"`(\w+)` in every build", PAGE.read_text()):
        assert (DBT_PROJECT / "tests" / f"{test}.sql").exists(), test


def test_its_figures_are_those_that_the_commands_wrote():
    figures = re.findall(r"^\| (.*) \| (\d+) \| `make [a-z-]+` \| \[.*\]\((.*)\) \|$", PAGE.read_text(), re.MULTILINE)
    assert len(figures) > 5
    for what, figure, page in figures:
        assert re.search(rf"\b{figure}\b", (PAGE.parent / page).read_text()), what
