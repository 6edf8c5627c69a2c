"""Migration of raw rows and state to Spark and back."""

import pytest
from support.oracle import Row
from support.streams import THRESHOLDS, detected, exported, write_chunk
from tallymark.audit import AuditError, audit
from tallymark.local import certify
from tallymark.local.replay import replay
from tallymark.recovery.migrate_engine import MigrationError, migrate_engine
from tallymark.settings import Settings
from tallymark.store.folder import FolderStore
from tallymark.warehouse.connection import connect

pytestmark = pytest.mark.system


@pytest.fixture
def out(data, tmp_path, monkeypatch):
    """A DuckDB warehouse that has processed two of three chunks."""
    out = tmp_path / "out"
    waiting = data / "input/transactions/chunk_3"
    waiting.rename(tmp_path / "chunk_3")
    with monkeypatch.context() as patched:
        patched.setenv("TALLYMARK_ENGINE", "duckdb")
        replay(data, out, vars=THRESHOLDS)
    (tmp_path / "chunk_3").rename(waiting)
    return out


@pytest.fixture
def settings(out) -> Settings:
    return Settings(warehouse=out / "warehouse.duckdb", vars=THRESHOLDS)


@pytest.fixture
def store(data, out) -> FolderStore:
    return FolderStore(data, target=out, written="output/")


def contents(data, out) -> dict[str, list[str]]:
    return certify.contents(data, certify.Way("any", out, 0))


def test_migration_there_and_back(data, out, settings, store, expected, monkeypatch):
    before = exported(out)
    assert migrate_engine(settings, store, "spark")["rows"] == 120
    with connect(settings, read_only=True) as warehouse:
        assert warehouse.execute("select count(*) from raw.transactions").fetchall() == [(0,)]
        tables = warehouse.execute("select table_name from duckdb_tables()").fetchall()
    assert ("merchant_customers",) not in tables
    assert exported(out) == before
    replay(data, out, vars=THRESHOLDS)
    assert contents(data, out) == expected
    assert migrate_engine(settings, store, "duckdb")["rows"] == 180
    monkeypatch.setenv("TALLYMARK_ENGINE", "duckdb")
    assert contents(data, out) == expected
    write_chunk(data, "chunk_4", [Row("C0", "M9", "F", "1")] * 5)
    assert replay(data, out, vars=THRESHOLDS)["detections"] == 1
    assert len(detected(out)) == len(expected["detections"]) + 1
    assert audit(Settings(warehouse=settings.warehouse, vars=THRESHOLDS), store)["tests"] > 10


def test_failed_audit_prevents_migration(data, out, settings, store, monkeypatch):
    """Somebody has deleted a detection by hand."""
    with connect(settings) as warehouse:
        warehouse.execute("delete from detections where detection_id = 1")
    before = settings.warehouse.read_bytes()
    with pytest.raises(AuditError):
        migrate_engine(settings, store, "spark")
    assert settings.warehouse.read_bytes() == before
    assert not list(out.glob("*migration*"))


def test_impossible_migration_is_rejected(data, out, settings, store, monkeypatch):
    with pytest.raises(MigrationError, match="The raw rows are already in the warehouse"):
        migrate_engine(settings, store, "duckdb")
    migrate_engine(settings, store, "spark")
    with pytest.raises(MigrationError, match="are already on Spark, in the schema tallymark_"):
        migrate_engine(settings, store, "databricks")
    monkeypatch.setenv("TALLYMARK_ENGINE", "duckdb")
    with pytest.raises(MigrationError, match="Set TALLYMARK_ENGINE to the engine that holds them"):
        migrate_engine(Settings(warehouse=settings.warehouse, vars=THRESHOLDS), store, "duckdb")
    with pytest.raises(MigrationError, match="There is no warehouse"):
        migrate_engine(settings.model_copy(update={"warehouse": out / "none.duckdb"}), store, "spark")
