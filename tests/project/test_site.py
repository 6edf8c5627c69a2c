"""The documentation site: it has every page, and needs no internet."""

import re
import shutil
import subprocess
import sys

import pytest
from tallymark.settings import PROJECT_ROOT


@pytest.fixture
def site(tmp_path):
    """The site, with a placeholder for the dbt documentation that ``make docs`` writes."""
    shutil.copy(PROJECT_ROOT / "mkdocs.yml", tmp_path)
    shutil.copytree(PROJECT_ROOT / "docs", tmp_path / "docs")
    (tmp_path / "docs/models.html").write_text("<html>")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return tmp_path / ".local/site"


def test_site_needs_no_internet(site):
    assert (site / "search/search_index.json").exists()
    page = (site / "index.html").read_text()
    assert "operations.html" in page
    loaded = re.findall(r"<(?:script|img)[^>]+src=\"?([^\s\">]+)|<link[^>]+stylesheet[^>]+href=\"?([^\s\">]+)", page)
    assert loaded
    assert [address for addresses in loaded for address in addresses if address.startswith("http")] == []
