import duckdb
import pytest
from tallymark.errors import UserError
from tallymark.settings import Settings
from tallymark.warehouse.connection import connect
from tallymark.warehouse.ledger_index import LedgerIndex


@pytest.fixture
def settings(tmp_path):
    return Settings(warehouse=tmp_path / "warehouse.duckdb")


def test_a_closed_warehouse_is_closed(settings):
    with connect(settings) as warehouse:
        warehouse.execute("create temp table seen as select 1 as number")
    with pytest.raises(duckdb.Error, match="closed"):
        warehouse.execute("select 1")
    assert LedgerIndex(settings.warehouse, settings.limits).is_valid()


def test_a_reader_never_gets_the_connection_of_a_writer(settings):
    with connect(settings), pytest.raises(duckdb.ConnectionException), connect(settings, read_only=True):
        pytest.fail("it opened")


def test_after_an_error_the_warehouse_is_opened_anew(settings):
    with pytest.raises(UserError, match="mine"), connect(settings) as warehouse:
        warehouse.execute("create temp table seen as select 1 as number")
        raise UserError("mine")
    with connect(settings) as warehouse, pytest.raises(duckdb.CatalogException):
        warehouse.execute("from seen")


def test_a_new_warehouse_is_written_as_duckdb_1_4_does(settings):
    with connect(settings) as warehouse:
        tags = warehouse.execute("select tags from duckdb_databases() where database_name = 'warehouse'").fetchone()
    assert tags[0]["storage_version"] == "v1.4.0+"
