"""Released detections stay: the schema is only upgraded, never downgraded, and no dbt run changes released rows."""

import re
from pathlib import Path

import duckdb
import pytest
import yaml
from support.gate import in_gate
from support.oracle import Row
from support.project import use_copy
from support.streams import detected, write_chunk
from tallymark.audit import AuditError, audit
from tallymark.local.replay import replay
from tallymark.pipeline.build import BuildError, build_models
from tallymark.pipeline.export import export_detections
from tallymark.pipeline.load import load_chunks
from tallymark.settings import Settings
from tallymark.store.folder import FolderStore
from tallymark.warehouse import invoke_dbt, schema
from tallymark.warehouse.connection import connect
from tallymark.warehouse.errors import WarehouseError, explained
from tallymark.warehouse.invoke_dbt import DbtError, update_schema
from tallymark.warehouse.schema import SCHEMA_VERSION


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(warehouse=tmp_path / "warehouse.duckdb")


def tables(path: Path) -> dict[str, str]:
    with duckdb.connect(str(path)) as connection:
        return dict(connection.execute("select schema_name || '.' || table_name, sql from duckdb_tables()").fetchall())


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    return use_copy(tmp_path, monkeypatch)


@pytest.fixture
def next_step(project, monkeypatch) -> Path:
    """The file of an additional schema step."""
    monkeypatch.setattr(schema, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    return project / f"macros/schema/step_{SCHEMA_VERSION + 1}.sql"


def write_step(path: Path, *statements: str) -> None:
    path.write_text(f"{{% macro schema_{path.stem}() %}}{{{{ return({list(statements)}) }}}}{{% endmacro %}}")
    invoke_dbt._parsed.clear()


def test_new_warehouse_gets_all_schema_steps(settings):
    with connect(settings) as connection:
        steps = connection.execute("select version from raw.schema_versions order by 1").fetchall()
    assert steps == [(number,) for number in range(1, SCHEMA_VERSION + 1)]
    before = tables(settings.warehouse)
    update_schema(settings)
    assert tables(settings.warehouse) == before


@pytest.mark.parametrize("read_only", [False, True])
def test_newer_schema_version_is_rejected(settings, read_only):
    with connect(settings) as connection:
        connection.execute("insert into raw.schema_versions values (?, now())", [SCHEMA_VERSION + 1])
    before = settings.warehouse.read_bytes()
    message = rf"has schema version {SCHEMA_VERSION + 1}, .* up to {SCHEMA_VERSION}\. Install the newer Tallymark"
    with pytest.raises(WarehouseError, match=message), connect(settings, read_only):
        pass
    with pytest.raises(DbtError, match=message):
        update_schema(settings)
    assert settings.warehouse.read_bytes() == before


def test_file_of_newer_duckdb_is_rejected(settings):
    """Uses the message of DuckDB 1.5.6 about a file that 2.0.1 wrote in its own format."""
    message = (
        "IO Error: Trying to read a database file with version number 69, but we can only read versions between 64 "
        "and 68.\nThe database file was created with a newer version of DuckDB.\n\nNewer DuckDB version might ..."
    )
    assert str(explained(message, settings.warehouse)) == (
        f"A newer DuckDB wrote the warehouse: {settings.warehouse}. Install the version of Tallymark that wrote it. "
        f"Nothing was changed. DuckDB reports: {message.splitlines()[0]}"
    )


def test_new_schema_step_upgrades_existing_warehouse(tmp_path, request):
    """A step that fails leaves nothing behind. A step that succeeds runs once."""
    settings = Settings(warehouse=tmp_path / "warehouse.duckdb")
    with connect(settings) as connection:
        connection.execute("insert into output.releases values (7, now())")
    before = tables(settings.warehouse)
    step = request.getfixturevalue("next_step")
    write_step(step, "create table raw.more (a int)", "select error('power cut')")
    with pytest.raises(DbtError, match=r"Failed to set up the warehouse(.|\n)*power cut"):
        update_schema(settings)
    assert "raw.more" not in tables(settings.warehouse)
    assert before.keys() <= tables(settings.warehouse).keys()
    write_step(step, "create table raw.more (a int)", "insert into raw.more values (1)")
    for _ in range(2):
        with connect(settings) as connection:
            assert connection.execute("from raw.more").fetchall() == [(1,)]
            assert connection.execute("select chunk_seq from output.releases").fetchall() == [(7,)]


VARS = {"child_min_transactions": 3, "dei_min_female_customers": 1}
FACTS = ("from detections order by detection_id", "from chunk_thresholds order by chunk_seq")


def rows_of(number: int) -> list[Row]:
    """In each chunk: three new CHILD detections at M, and three customers that lower thresholds would detect."""
    rows = [Row(f"C{number}-{n}", "M", "FM"[n > 0], "1") for n in range(3) for _ in range(3)]
    return rows + [Row(f"D{number}-{n}", "M", "M", "1") for n in range(3) for _ in range(2)]


@pytest.fixture
def data(tmp_path) -> Path:
    for number in (1, 2, 3):
        write_chunk(tmp_path / "data", f"chunk_{number}", rows_of(number))
    return tmp_path / "data"


@pytest.fixture
def released(tmp_path, data) -> Settings:
    """A warehouse with three released chunks, two from one batch and one from another."""
    settings = Settings(warehouse=tmp_path / "out/warehouse.duckdb", vars=VARS)
    replay(data, tmp_path / "out", batch=2, vars=VARS)
    return settings


@pytest.fixture
def store(data, released) -> FolderStore:
    return FolderStore(data, target=released.warehouse.parent)


def facts(settings: Settings) -> list[list[tuple]]:
    return [query(settings, fact) for fact in FACTS]


def query(settings: Settings, sql: str) -> list[tuple]:
    with connect(settings, read_only=True) as connection:
        return connection.execute(sql).fetchall()


def assert_continues_undisturbed(data: Path, settings: Settings, tmp_path: Path) -> None:
    """The next chunk gives the results of an undisturbed run, and the audit finds no difference."""
    before = detected(settings.warehouse.parent)
    write_chunk(data, "chunk_4", rows_of(4))
    replay(data, settings.warehouse.parent, vars=VARS)
    replay(data, tmp_path / "undisturbed", batch=1, vars=VARS)
    assert detected(settings.warehouse.parent)[: len(before)] == before
    assert detected(settings.warehouse.parent) == detected(tmp_path / "undisturbed")
    audit(settings, FolderStore(data, target=settings.warehouse.parent))


LOWER = {"child_min_transactions": 2, "dei_min_female_customers": 0}
BY_HAND = {
    "run --empty": VARS,
    "build --empty": VARS,
    "run --empty --select batch_chunks+": VARS,
    "run --full-refresh": LOWER,
    "run": LOWER,
    "run --select child+": LOWER,
    "run --select child+ --full-refresh": LOWER,
    "run --select config.materialized:incremental": LOWER,
}


@pytest.mark.parametrize("command", in_gate(BY_HAND, "build --empty"))
def test_no_dbt_run_changes_released_detections(data, released, store, tmp_path, command):
    before = facts(released)
    by_hand = released.model_copy(update={"vars": BY_HAND[command]})
    arguments = [*command.split(), "--exclude-resource-type", "unit_test"] if "build" in command else command.split()
    assert invoke_dbt.invoke(by_hand, arguments).success
    assert facts(released) == before
    with pytest.raises(RuntimeError, match="models ran since the last dbt build"):
        export_detections(released, store)
    build_models(released)
    assert export_detections(released, store) == {"detections": 0, "files": 0, "held": 0, "open_issues": 0}
    assert facts(released) == before
    assert_continues_undisturbed(data, released, tmp_path)


def test_emptied_state_fails_the_build_until_full_refresh(data, released, store, tmp_path):
    before = facts(released)
    assert invoke_dbt.invoke(released, ["run", "--empty", "--full-refresh"]).success
    with pytest.raises(BuildError, match=r"recompute it with tallymark build --full-refresh(.|\n)*state_adds_up"):
        build_models(released)
    build_models(released, full_refresh=True)
    assert facts(released) == before
    assert_continues_undisturbed(data, released, tmp_path)


@pytest.mark.system
def test_manual_run_with_other_vars_before_export(data, released, store, tmp_path):
    """A manual run evaluates a batch that is not released; the next build evaluates it again with the real vars."""
    write_chunk(data, "chunk_4", rows_of(4))
    load_chunks(released, store)
    build_models(released)
    assert invoke_dbt.invoke(released.model_copy(update={"vars": LOWER}), ["run"]).success
    assert_continues_undisturbed(data, released, tmp_path)


@pytest.mark.parametrize(
    "statement",
    [
        "insert into detections select * replace (99 as detection_id) from detections where detection_id = 1",
        "insert into detections select * replace ('new' as customer) from detections where detection_id = 1",
        "insert into chunk_thresholds from chunk_thresholds limit 1",
    ],
)
def test_duplicate_facts_violate_a_constraint(released, statement):
    with connect(released) as connection, pytest.raises(duckdb.ConstraintException):
        connection.execute(statement)


@pytest.mark.parametrize("given", ["{child_min_transaction: 60}", "{child_min_transactions:60}", "{1: 2}"])
def test_unknown_var_is_rejected(tmp_path, data, given):
    """The second case has no space after the colon, so in YAML it is a name without a value."""
    vars = yaml.safe_load(given)
    message = f"unknown vars: {next(iter(vars))}. The thresholds are: upgrade_min_merchant_transactions, "
    with pytest.raises(ValueError, match=re.escape(message)):
        replay(data, tmp_path / "out", vars=vars)


def test_manual_dbt_run_rejects_unknown_var(settings):
    messages = []
    wrong = settings.model_copy(update={"vars": {"child_min_transaction": 60}})
    assert not invoke_dbt.invoke(wrong, ["run"], on_message=messages.append).success
    assert "unknown vars: child_min_transaction. " in "".join(messages)
    assert "child_min_transactions, dei_min_female_customers" in "".join(messages)
    assert invoke_dbt.invoke(settings.model_copy(update={"vars": VARS}), ["run"]).success


@pytest.mark.parametrize("name", ["TALLYMARK_MAX_CHUNK_PER_RUN", "TALLYMARK_CHILD_MIN_TRANSACTIONS", "tallymark_zone"])
def test_unknown_setting_is_rejected(monkeypatch, name):
    monkeypatch.setenv(name, "7")
    with pytest.raises(ValueError, match=rf"Unknown setting: {name.upper()}\..*TALLYMARK_MAX_CHUNKS_PER_RUN"):
        Settings()


@pytest.mark.parametrize(
    "name",
    ["BANKSIM", "KILLS", "SERVICE_HOST", "SERVICE_PORT_HTTP", "PORT", "PORT_8080_TCP_ADDR", "WEB_SERVICE_HOST"],
)
def test_unrelated_variables_are_allowed(monkeypatch, name):
    """Kubernetes sets some of them in every pod if a service is named tallymark."""
    monkeypatch.setenv(f"TALLYMARK_{name}", "7")
    assert Settings().max_chunks_per_run == 100


def test_sanity_tests_check_new_rows_and_audit_all(data, released, store):
    """Only the audit finds faults in rows released long ago, because a build does not read them."""
    with connect(released) as connection:
        connection.execute("update output.files set row_count = row_count + 1 where file_number = 1")
        connection.execute("update detections set detection_id = 0 where detection_id = 2")
    write_chunk(data, "chunk_4", rows_of(4))
    replay(data, released.warehouse.parent, vars=VARS)
    with pytest.raises(AuditError, match=r"(?s)all_files_are_in_order.*detections_are_numbered"):
        audit(released, store)
    with connect(released) as connection:
        connection.execute("update output.files set row_count = row_count + 1 where file_number = 3")
    write_chunk(data, "chunk_5", rows_of(5))
    with pytest.raises(BuildError, match=r"test files_are_in_order\b"):
        replay(data, released.warehouse.parent, vars=VARS)
