import duckdb
import pytest
from tallymark.errors import UserError
from tallymark.settings import Settings
from tallymark.warehouse.connection import connect
from tallymark.warehouse.ledger_index import LedgerIndex


@pytest.fixture
def settings(tmp_path):
    return Settings(warehouse=tmp_path / "warehouse.duckdb")


def test_a_connection_within_another_is_the_same(settings):
    with connect(settings) as outer:
        outer.execute("create temp table seen as select 1 as number")
        with connect(settings, read_only=True) as inner:
            assert inner.execute("from seen").fetchall() == [(1,)]
        assert outer.execute("from seen").fetchall() == [(1,)]
    with pytest.raises(duckdb.Error, match="closed"):
        outer.execute("select 1")
    assert LedgerIndex(settings).is_valid()


def test_after_an_error_the_warehouse_is_opened_anew(settings):
    with pytest.raises(UserError, match="mine"), connect(settings), connect(settings) as inner:
        inner.execute("create temp table seen as select 1 as number")
        raise UserError("mine")
    with connect(settings) as warehouse, pytest.raises(duckdb.CatalogException):
        warehouse.execute("from seen")


def test_a_new_warehouse_is_written_as_duckdb_1_4_does(settings):
    with connect(settings) as warehouse:
        tags = warehouse.execute("select tags from duckdb_databases() where database_name = 'warehouse'").fetchone()
    assert tags[0]["storage_version"] == "v1.4.0+"
