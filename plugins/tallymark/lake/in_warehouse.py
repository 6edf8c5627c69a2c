"""Raw rows and state in the warehouse itself, with all models running on DuckDB."""

from collections.abc import Sequence
from typing import Any

import duckdb

from tallymark.lake import Record
from tallymark.settings import Settings
from tallymark.warehouse.connection import connect
from tallymark.warehouse.invoke_dbt import DbtError, invoke, parse


class InWarehouse:
    """A ``tallymark.lake.Lake`` in the DuckDB warehouse."""

    def __init__(self, settings: Settings):
        self._settings = settings

    def manifest(self) -> Any:
        return parse(self._settings)

    def build(self, command: Sequence[str], full_refresh: bool, record: Record) -> tuple[Any, list[Any]]:
        command = [*command, *["--full-refresh"] * full_refresh]
        result = invoke(self._settings, command, self.manifest(), and_then=record)
        return result, list(result.result or [])

    def audit(self) -> tuple[Any, list[Any]]:
        result = invoke(self._settings, ["test", "--select", "tag:audit"], self.manifest())
        return result, list(result.result or [])

    def failing_rows(self, node: Any, most: int) -> list[dict[str, Any]]:
        with connect(self._settings, read_only=True) as warehouse:
            return as_dicts(warehouse.execute(node.compiled_code), most)

    def by_hand(self, arguments: Sequence[str]) -> Any:
        return invoke(self._settings, list(arguments), self.manifest(), is_shown=True)

    def drop_models(self) -> None:
        """Drop the tables of all models, but keep raw rows and released detections.

        Raises:
            DbtError: when dbt cannot drop a table.
        """
        result = invoke(self._settings, ["run-operation", "drop_models"], self.manifest())
        if not result.success:
            raise DbtError(
                f"Could not drop the models' tables in the warehouse {self._settings.warehouse}: {result.exception}"
            )

    def fetch(
        self, warehouse: duckdb.DuckDBPyConnection, table: str, chunks: tuple[int, int] | None = None
    ) -> duckdb.DuckDBPyRelation:
        return rows_of(warehouse, table, chunks)


def as_dicts(found: duckdb.DuckDBPyConnection, most: int | None = None) -> list[dict[str, Any]]:
    """Return the rows of a query as dictionaries: at most ``most``, or all of them."""
    columns = [column[0] for column in found.description]
    rows = found.fetchall() if most is None else found.fetchmany(most)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def rows_of(
    warehouse: duckdb.DuckDBPyConnection, table: str, chunks: tuple[int, int] | None = None
) -> duckdb.DuckDBPyRelation:
    """Return the rows of a warehouse table.

    Args:
        chunks: the first and last chunk_seq, or None for the rows of all chunks.
    """
    if chunks is None:
        return warehouse.sql("from query_table($table)", params={"table": table})
    return warehouse.sql(
        "from query_table($table) where chunk_seq between $first and $last",
        params={"table": table, "first": chunks[0], "last": chunks[1]},
    )
