"""Where raw rows and state are, and where the models that read them run: in the warehouse itself, or on Spark.

Everything that is a fact stays in the warehouse whatever the engine is: the ledger, rejected rows, detections, files.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import duckdb

from tallymark.settings import Settings
from tallymark.store import Store

Record = Callable[[Iterable[Any], duckdb.DuckDBPyConnection], None]


class Lake(Protocol):
    """What the steps need of the place that holds raw rows and state."""

    def build(self, command: Sequence[str], full_refresh: bool, record: Record) -> tuple[Any, list[Any]]:
        """Run a ``dbt build`` over the rows that the ledger names.

        Args:
            command: the arguments of dbt; the last ones say what to exclude.
            record: is given the results of all nodes and the open warehouse after a success.

        Returns:
            The result of the command, the failed one if there is one, and the results of all nodes.
        """

    def manifest(self) -> Any:
        """The parsed project, as this engine has it."""

    def audit(self) -> tuple[Any, list[Any]]:
        """Run the dbt tests with the tag ``audit``; returns what ``build`` does."""

    def failing_rows(self, node: Any, most: int) -> list[dict[str, Any]]:
        """Rows that a dbt test found, as many at most."""

    def by_hand(self, arguments: Sequence[str]) -> Any:
        """Run the dbt command of a person, and show what it prints; on Spark, over what the last build left there."""

    def fetch(
        self, warehouse: duckdb.DuckDBPyConnection, table: str, chunks: tuple[int, int] | None = None
    ) -> duckdb.DuckDBPyRelation:
        """The rows of a source or a model, such as ``raw.transactions`` or ``merchants``.

        Args:
            chunks: the first and the last chunk_seq; None: rows of all chunks.
        """


def open_lake(settings: Settings, store: Store | None = None) -> Lake:
    """The engine that the settings name.

    Args:
        store: the bucket, which ``settings.lake_staging`` needs.
    """
    if settings.engine == "duckdb":
        from tallymark.lake.in_warehouse import InWarehouse

        return InWarehouse(settings)
    from tallymark.lake.on_spark import OnSpark

    return OnSpark(settings, store)
