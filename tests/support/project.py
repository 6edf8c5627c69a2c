"""A copy of the dbt project that a test may change."""

import shutil
from pathlib import Path

import pytest
from tallymark.patterns import DBT_PROJECT
from tallymark.warehouse import invoke_dbt


def use_copy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy the dbt project to the folder, make Tallymark use the copy, and return its path."""
    copy = folder / "project"
    shutil.copytree(DBT_PROJECT, copy, ignore=shutil.ignore_patterns("target", "logs"))
    monkeypatch.setattr(invoke_dbt, "DBT_PROJECT", copy)
    monkeypatch.setattr(invoke_dbt, "_parsed", {})
    return copy
