import duckdb
import pytest
from tallymark.errors import UserError
from tallymark.settings import Settings
from tallymark.warehouse.connection import connect
from tallymark.warehouse.ledger_index import LedgerIndex


@pytest.fixture
def settings(tmp_path):
    return Settings(warehouse=tmp_path / "warehouse.duckdb")


def test_connect_closes_the_connection(settings):
    with connect(settings) as warehouse:
        warehouse.execute("create temp table seen as select 1 as number")
    with pytest.raises(duckdb.Error, match="closed"):
        warehouse.execute("select 1")
    assert LedgerIndex(settings.warehouse, settings.limits).is_valid()


def test_reader_never_gets_a_writers_connection(settings):
    with connect(settings), pytest.raises(duckdb.ConnectionException), connect(settings, read_only=True):
        pytest.fail("it opened")


def test_connection_is_not_reused_after_an_error(settings):
    with pytest.raises(UserError, match="mine"), connect(settings) as warehouse:
        warehouse.execute("create temp table seen as select 1 as number")
        raise UserError("mine")
    with connect(settings) as warehouse, pytest.raises(duckdb.CatalogException):
        warehouse.execute("from seen")


def test_new_warehouse_has_storage_version_1_4(settings):
    with connect(settings) as warehouse:
        tags = warehouse.execute("select tags from duckdb_databases() where database_name = 'warehouse'").fetchone()
    assert tags[0]["storage_version"] == "v1.4.0+"
