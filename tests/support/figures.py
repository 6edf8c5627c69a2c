"""Writes the pages in docs/reliability/ with the figures that tests measured."""

import os
from collections.abc import Iterable

import pytest
from tallymark.settings import PROJECT_ROOT

WANTED = bool(os.environ.get("TALLYMARK_FIGURES"))


def write(session: pytest.Session, name: str, text: str, columns: tuple[str, ...], rows: Iterable[tuple]) -> None:
    """Write a page with text and a table, if ``TALLYMARK_FIGURES`` is set and no test failed."""
    if not WANTED or session.testsfailed:
        return
    lines = [" | ".join(map(str, row)) for row in (columns, ["---"] * len(columns), *rows)]
    page = PROJECT_ROOT / "docs" / "reliability" / f"{name}.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n".join([text.strip(), "", *(f"| {line} |" for line in lines), ""]))
