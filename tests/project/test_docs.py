"""Every path, link, setting, command and test that a Markdown file names exists."""

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest
from tallymark.settings import PROJECT_ROOT, TEST_VARIABLES, Settings

FILES = subprocess.check_output(["git", "ls-files", "-z"], cwd=PROJECT_ROOT, text=True).split("\0")[:-1]
PAGES = [name for name in FILES if name.endswith(".md")]
SETTINGS = {f"TALLYMARK_{name}".upper() for name in (*Settings.model_fields, *TEST_VARIABLES)}
TARGETS = set(re.findall(r"^([a-z-]+)\b.*:", (PROJECT_ROOT / "Makefile").read_text(), re.MULTILINE))
# Written by a command, or copied by an administrator, so that git does not have them.
GENERATED = {".env", "docs/models.html"}
# Files of the pattern that docs/adding-a-pattern.md adds, and a variable that Kubernetes sets.
EXAMPLES = re.compile(r"dbt_project/\S*\bsurge\b\S*|TALLYMARK_SERVICE_HOST")


@cache
def prose(name: str) -> str:
    """The text of a page without its code blocks."""
    return re.sub(r"^ *```.*?^ *```$", "", (PROJECT_ROOT / name).read_text(), flags=re.MULTILINE | re.DOTALL)


@cache
def anchors(name: str) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", prose(name), re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)|[`*]", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def broken_links(name: str) -> list[str]:
    return [
        link
        for link in re.findall(r"\]\(([^)\s]+)\)", prose(name))
        if not re.match(r"[a-z]+:", link) and not resolves((PROJECT_ROOT / name), link)
    ]


def resolves(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    known_as = str(target.relative_to(PROJECT_ROOT))
    if anchor and target.suffix == ".md":
        return target.exists() and anchor in anchors(known_as)
    return target.exists() or known_as in GENERATED


def missing_paths(name: str) -> list[str]:
    """Paths in backticks that begin like one of the repository."""
    roots = {Path(file).parts[0] for file in FILES if "/" in file}
    quoted = [
        path.partition("::")[0].rstrip("/")
        for path in re.findall(r"`([\w.-]+/[\w./-]+(?:::\w+)?)`", prose(name))
        if path.partition("/")[0] in roots
    ]
    return [path for path in quoted if not (PROJECT_ROOT / path).exists() and path not in GENERATED]


def missing_tests(name: str) -> list[str]:
    return [
        f"{file}::{test}"
        for file, test in re.findall(r"(test_\w+\.py)::(test_\w+)", prose(name))
        if not any(
            re.search(rf"^ *def {test}\(", path.read_text(), re.MULTILINE)
            for path in (PROJECT_ROOT / "tests").rglob(file)
        )
    ]


@pytest.mark.parametrize("folder", ["docs", "docs/decisions"])
def test_index_lists_every_page(folder):
    pages = {path.name for path in (PROJECT_ROOT / folder).glob("*.md")}
    assert pages - set(re.findall(r"\]\(([\w-]+\.md)\)", prose(f"{folder}/README.md"))) == {"README.md"}


@pytest.mark.parametrize("name", PAGES)
def test_everything_that_a_page_names_exists(name):
    text = (PROJECT_ROOT / name).read_text()
    # A name that ends in an underscore is the beginning of several.
    settings = set(re.findall(r"(?<!_)TALLYMARK_[A-Z_]*[A-Z]\b(?!_)", text)) - SETTINGS
    targets = set(re.findall(r"(?:^ *|`)make ([a-z][a-z-]*)", text, re.MULTILINE)) - TARGETS
    missing = [*broken_links(name), *missing_paths(name), *missing_tests(name), *settings, *targets]
    assert [each for each in missing if not EXAMPLES.fullmatch(each)] == []
