"""What was released stays: the schema of the warehouse goes forward only, and no run of models touches what is out."""

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
    """The file of one more step."""
    monkeypatch.setattr(schema, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
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
    says = rf"has schema version {SCHEMA_VERSION + 1}, .* up to {SCHEMA_VERSION}\. Install the newer Tallymark"
    with pytest.raises(WarehouseError, match=says), connect(settings, read_only):
        pass
    with pytest.raises(DbtError, match=says):
        update_schema(settings)
    assert settings.warehouse.read_bytes() == before


def test_a_file_of_a_newer_duckdb_is_refused(settings):
    """What DuckDB 1.5.6 says about a file that 2.0.1 wrote in its own format."""
    said = (
        "IO Error: Trying to read a database file with version number 69, but we can only read versions between 64 "
        "and 68.\nThe database file was created with a newer version of DuckDB.\n\nNewer DuckDB version might ..."
    )
    assert str(explained(said, settings.warehouse)) == (
        f"A newer DuckDB wrote the warehouse {settings.warehouse}. Install the version of Tallymark that wrote it. "
        f"Nothing was changed. DuckDB reports: {said.splitlines()[0]}"
    )


def test_a_new_step_adds_a_table_to_an_existing_warehouse(tmp_path, request):
    """A step that breaks off leaves nothing behind, and runs once."""
    settings = Settings(warehouse=tmp_path / "warehouse.duckdb")
    with connect(settings) as connection:
        connection.execute("insert into output.releases values (7, now())")
    before = tables(settings.warehouse)
    step = request.getfixturevalue("next_step")
    write_step(step, "create table raw.more (a int)", "select error('power cut')")
    with pytest.raises(DbtError, match=r"could not be set up(.|\n)*power cut"):
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
    """Of each chunk, three new children at M, three customers that a lower threshold would catch, and both genders."""
    rows = [Row(f"C{number}-{n}", "M", "FM"[n > 0], "1") for n in range(3) for _ in range(3)]
    return rows + [Row(f"D{number}-{n}", "M", "M", "1") for n in range(3) for _ in range(2)]


@pytest.fixture
def data(tmp_path) -> Path:
    for number in (1, 2, 3):
        write_chunk(tmp_path / "data", f"chunk_{number}", rows_of(number))
    return tmp_path / "data"


@pytest.fixture
def released(tmp_path, data) -> Settings:
    """A warehouse in which three chunks were released, two together and one."""
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


def goes_on_undisturbed(data: Path, settings: Settings, tmp_path: Path) -> None:
    """The next chunk leads to what it would have led to, and the audit finds nothing."""
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
def test_no_run_of_models_touches_what_was_released(data, released, store, tmp_path, command):
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
    goes_on_undisturbed(data, released, tmp_path)


def test_a_state_that_a_flag_emptied_is_refused_until_it_is_made_anew(data, released, store, tmp_path):
    before = facts(released)
    assert invoke_dbt.invoke(released, ["run", "--empty", "--full-refresh"]).success
    with pytest.raises(BuildError, match=r"tallymark build --full-refresh makes it anew(.|\n)*state_adds_up"):
        build_models(released)
    build_models(released, full_refresh=True)
    assert facts(released) == before
    goes_on_undisturbed(data, released, tmp_path)


def test_other_vars_between_a_load_and_its_build(data, released, store, tmp_path):
    """What a run by hand finds in a batch that is not released is found anew by the next build."""
    write_chunk(data, "chunk_4", rows_of(4))
    load_chunks(released, store)
    build_models(released)
    assert invoke_dbt.invoke(released.model_copy(update={"vars": LOWER}), ["run"]).success
    goes_on_undisturbed(data, released, tmp_path)


@pytest.mark.parametrize(
    "statement",
    [
        "insert into detections select * replace (99 as detection_id) from detections where detection_id = 1",
        "insert into detections select * replace ('new' as customer) from detections where detection_id = 1",
        "insert into chunk_thresholds from chunk_thresholds limit 1",
    ],
)
def test_the_warehouse_refuses_to_keep_a_fact_twice(released, statement):
    with connect(released) as connection, pytest.raises(duckdb.ConstraintException):
        connection.execute(statement)


@pytest.mark.parametrize("given", ["{child_min_transaction: 60}", "{child_min_transactions:60}", "{1: 2}"])
def test_a_var_that_nothing_is_called_is_an_error_that_names_those_that_are(tmp_path, data, given):
    """The second one lacks a space: for YAML it is one name without a value."""
    vars = yaml.safe_load(given)
    says = f"unknown vars: {next(iter(vars))}. The thresholds are: upgrade_min_merchant_transactions, "
    with pytest.raises(ValueError, match=re.escape(says)):
        replay(data, tmp_path / "out", vars=vars)


def test_dbt_by_hand_refuses_an_unknown_var(settings):
    said = []
    wrong = settings.model_copy(update={"vars": {"child_min_transaction": 60}})
    assert not invoke_dbt.invoke(wrong, ["run"], hears=said.append).success
    assert "unknown vars: child_min_transaction. " in "".join(said)
    assert "child_min_transactions, dei_min_female_customers" in "".join(said)
    assert invoke_dbt.invoke(settings.model_copy(update={"vars": VARS}), ["run"]).success


@pytest.mark.parametrize("name", ["TALLYMARK_MAX_CHUNK_PER_RUN", "TALLYMARK_CHILD_MIN_TRANSACTIONS", "tallymark_zone"])
def test_a_setting_that_nothing_is_called_is_an_error_that_names_those_that_are(monkeypatch, name):
    monkeypatch.setenv(name, "7")
    with pytest.raises(ValueError, match=rf"Unknown setting: {name.upper()}\..*TALLYMARK_MAX_CHUNKS_PER_RUN"):
        Settings()


@pytest.mark.parametrize(
    "name",
    ["BANKSIM", "KILLS", "SERVICE_HOST", "SERVICE_PORT_HTTP", "PORT", "PORT_8080_TCP_ADDR", "WEB_SERVICE_HOST"],
)
def test_variables_that_are_no_settings_do_no_harm(monkeypatch, name):
    """Kubernetes tells every pod of a service that is called tallymark."""
    monkeypatch.setenv(f"TALLYMARK_{name}", "7")
    assert Settings().max_chunks_per_run == 100


def test_sanity_tests_look_at_what_is_new_and_the_audit_at_all(data, released, store):
    """A fault in what was released long ago is the audit's to find; a build does not read so far back."""
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
