"""What was released stays: the schema of the warehouse goes forward only, and no run of models touches what is out."""

import shutil
from pathlib import Path

import duckdb
import pytest
from tallymark import invoke_dbt, warehouse
from tallymark.invoke_dbt import DbtError, update_schema
from tallymark.settings import DBT_PROJECT, Settings
from tallymark.warehouse import SCHEMA_VERSION, WarehouseError, connect


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(warehouse=tmp_path / "warehouse.duckdb")


def tables(path: Path) -> dict[str, str]:
    with duckdb.connect(str(path)) as connection:
        return dict(connection.execute("select schema_name || '.' || table_name, sql from duckdb_tables()").fetchall())


@pytest.fixture
def next_step(tmp_path, monkeypatch) -> Path:
    """The file of one more step, in a copy of the project."""
    project = tmp_path / "project"
    shutil.copytree(DBT_PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
    monkeypatch.setattr(invoke_dbt, "DBT_PROJECT", project)
    monkeypatch.setattr(warehouse, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    monkeypatch.setattr(invoke_dbt, "_parsed", {})
    return project / f"macros/schema/step_{SCHEMA_VERSION + 1}.sql"


def write_step(path: Path, *statements: str) -> None:
    path.write_text(f"{{% macro schema_{path.stem}() %}}{{{{ return({list(statements)}) }}}}{{% endmacro %}}")
    invoke_dbt._parsed.clear()


def test_a_new_warehouse_gets_all_steps(settings):
    with connect(settings) as connection:
        steps = connection.execute("select version from raw.schema_versions order by 1").fetchall()
    assert steps == [(number,) for number in range(1, SCHEMA_VERSION + 1)]
    before = tables(settings.warehouse)
    update_schema(settings)
    assert tables(settings.warehouse) == before


@pytest.mark.parametrize("read_only", [False, True])
def test_a_warehouse_of_a_newer_version_is_refused(settings, read_only):
    with connect(settings) as connection:
        connection.execute("insert into raw.schema_versions values (?, now())", [SCHEMA_VERSION + 1])
    before = settings.warehouse.read_bytes()
    says = rf"has schema version {SCHEMA_VERSION + 1}, .* up to {SCHEMA_VERSION}\. A newer one wrote it"
    with pytest.raises(WarehouseError, match=says), connect(settings, read_only):
        pass
    with pytest.raises(DbtError, match=says):
        update_schema(settings)
    assert settings.warehouse.read_bytes() == before


@pytest.mark.parametrize("counts", [True, False], ids=["counts its steps", "of the first version"])
def test_a_table_that_a_new_step_adds_comes_into_a_warehouse_that_is_there(tmp_path, request, counts):
    """A step that breaks off leaves nothing behind, and runs once."""
    settings = Settings(warehouse=tmp_path / "warehouse.duckdb")
    with connect(settings) as connection:
        connection.execute("insert into output.releases values (7, now())")
        if not counts:
            connection.execute("drop table raw.schema_versions")
    before = tables(settings.warehouse)
    step = request.getfixturevalue("next_step")
    write_step(step, "create table raw.more (a int)", "select error('power cut')")
    with pytest.raises(DbtError, match=r"could not be set up(.|\n)*power cut"):
        update_schema(settings)
    assert "raw.more" not in tables(settings.warehouse)
    assert before.items() <= tables(settings.warehouse).items()
    write_step(step, "create table raw.more (a int)", "insert into raw.more values (1)")
    for _ in range(2):
        with connect(settings) as connection:
            assert connection.execute("from raw.more").fetchall() == [(1,)]
            assert connection.execute("select chunk_seq from output.releases").fetchall() == [(7,)]
