"""Storage of raw rows and state, and the engine that runs the models on them: DuckDB or Spark.

The ledger, rejected rows, detections and the list of files are always in the DuckDB warehouse.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import duckdb

from tallymark.settings import Settings
from tallymark.store import Store

Record = Callable[[Iterable[Any], duckdb.DuckDBPyConnection], None]


class Lake(Protocol):
    """The storage of raw rows and state, with the operations that the pipeline needs."""

    def build(self, command: Sequence[str], full_refresh: bool, record: Record) -> tuple[Any, list[Any]]:
        """Run a ``dbt build`` over the rows of the chunks in the ledger.

        Args:
            command: arguments for dbt. They end with an ``--exclude`` list, because engines append to it.
            full_refresh: rebuild state from the raw rows.
            record: called after a successful build, with the results of all nodes and the open warehouse.

        Returns:
            The result of the last dbt command, which is the failed one if any failed, and the results of all nodes.
        """

    def manifest(self) -> Any:
        """Return the dbt project, parsed for this engine."""

    def audit(self) -> tuple[Any, list[Any]]:
        """Run the dbt tests that are tagged ``audit``. Returns the same as ``build``."""

    def failing_rows(self, node: Any, most: int) -> list[dict[str, Any]]:
        """Return at most ``most`` rows that fail a dbt test."""

    def by_hand(self, arguments: Sequence[str]) -> Any:
        """Run a dbt command that a user typed, and print its output. On Spark it sees the tables of the last build."""

    def fetch(
        self, warehouse: duckdb.DuckDBPyConnection, table: str, chunks: tuple[int, int] | None = None
    ) -> duckdb.DuckDBPyRelation:
        """Return the rows of a source or a model, such as ``raw.transactions`` or ``merchants``.

        Args:
            chunks: the first and last chunk_seq, or None for the rows of all chunks.
        """


def open_lake(settings: Settings, store: Store | None = None) -> Lake:
    """Return the lake for the engine in the settings.

    Args:
        store: the bucket; required if ``settings.lake_staging`` is set.
    """
    if settings.engine == "duckdb":
        from tallymark.lake.in_warehouse import InWarehouse

        return InWarehouse(settings)
    from tallymark.lake.on_spark import OnSpark

    return OnSpark(settings, store)
