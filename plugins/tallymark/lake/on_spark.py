"""Raw rows and state as Delta tables on Spark: docs/decisions/spark.md.

Chunks are loaded into the warehouse first. A build moves their rows to Spark, together with a copy of the ledger. After
the build, the candidates come back, and the warehouse turns them into detections. Every statement on Spark is a dbt
model or a macro in dbt_project/macros/lake.
"""

import json
import os
import secrets
import socket
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import duckdb
import requests

from tallymark import machine
from tallymark.errors import UserError
from tallymark.lake import Record
from tallymark.lake.in_warehouse import InWarehouse, as_dicts, rows_of
from tallymark.lake.staging import Staging
from tallymark.settings import Settings
from tallymark.store import Store
from tallymark.warehouse.connection import connect, fetch_row, run_sql, transaction
from tallymark.warehouse.errors import CONTINUES
from tallymark.warehouse.invoke_dbt import invoke, parse

# The last build on Spark must be among this many of the warehouse's latest builds.
BUILDS_KEPT = 100
SPARK_CONNECT_PORT = 15002
# Retries of one Spark Connect call, over about two minutes.
RETRIES = 8
# Rows per Parquet file, approximately: a chunk is never split.
ROWS_PER_LOAD = 5_000_000
# Settings of each session. Errors are shown to people, so they come without the server's Java stack trace.
SESSION = {"spark.sql.ansi.enabled": "true", "spark.sql.connect.serverStacktrace.enabled": "false"}
IN_WAREHOUSE = "tag:in_warehouse"
# Without "empty", dbt would also select tests by the tags of the models that they read.
AUDIT = ("test", "--indirect-selection", "empty", "--select")
SOURCES = ("released_ledger", "batch_ledger", "rejected_rows", "importance_versions", "near_pairs")
AUDIT_SOURCES = ("rejected_rows", "detections", "chunk_thresholds")
RESULTS = ("batch_candidates", "batch_merchants", "batch_merchant_customers", "merchants")
# Tables that are on Spark instead of in the warehouse.
MOVED = ("raw.transactions", "raw.customer_importance", "merchant_customers", "customer_weights")
NEAR_PAIRS = "create or replace temp view near_pairs as select distinct merchant, customer from snapshot.nearest"
NO_NEAR_PAIRS = "create or replace temp view near_pairs as select '' as merchant, '' as customer where false"


class LakeError(UserError, RuntimeError):
    """Spark cannot be used, or its tables do not match the warehouse. The message says what to do."""


class OnSpark:
    """A ``tallymark.lake.Lake`` on Spark."""

    def __init__(self, settings: Settings, store: Store | None):
        self._settings = settings
        self._store = store
        self._build = ""
        self._environment: dict[str, str] = {}
        self._manifest: Any = None

    def manifest(self) -> Any:
        if self._manifest is None:
            self._manifest = parse(self._settings, self._settings.engine, self._environment)
        return self._manifest

    def build(self, command: Sequence[str], full_refresh: bool, record: Record) -> tuple[Any, list[Any]]:
        with connect(self._settings) as warehouse:
            self._prepare(warehouse, full_refresh)
        result = self.run([*command, IN_WAREHOUSE, *["--full-refresh"] * full_refresh])
        nodes = list(result.result or [])
        with connect(self._settings) as warehouse:
            self._must_be_last(warehouse)
            if not result.success:
                return result, nodes
            self._collect_build(warehouse, full_refresh)
        rest = invoke(
            self._settings,
            [*command, "--select", IN_WAREHOUSE, "batch_chunks"],
            parse(self._settings),
            environment=self._environment,
            and_then=lambda found, warehouse: record([*nodes, *found], warehouse),
        )
        return rest, [*nodes, *(rest.result or [])]

    def audit(self) -> tuple[Any, list[Any]]:
        with connect(self._settings, read_only=True) as warehouse:
            last = self.use_last_build(warehouse)
            if not warehouse.execute("from output.passed_builds").fetchone():
                raise LakeError(
                    "The last build on Spark did not pass, so the audit cannot use its tables. Run the audit again "
                    "after the next successful build."
                )
            self._create_views(warehouse, synced=0, rejected_after=0, last=last)
            sources = self._stage(warehouse, AUDIT_SOURCES)
        self._operate("create_sources", sources=sources, replace=True)
        result = self.run([*AUDIT, "tag:audit", "--exclude", IN_WAREHOUSE])
        rest = invoke(
            self._settings,
            [*AUDIT, f"tag:audit,{IN_WAREHOUSE}"],
            parse(self._settings),
            environment=self._environment,
        )
        return (rest if result.success else result), [*(result.result or []), *(rest.result or [])]

    def failing_rows(self, node: Any, most: int) -> list[dict[str, Any]]:
        if "in_warehouse" in node.tags:
            return InWarehouse(self._settings).failing_rows(node, most)
        with duckdb.connect() as database, self._collected("query", query=node.compiled_code, most=most) as files:
            return as_dicts(database.execute("from read_parquet(?)", [files]))

    def check(self) -> None:
        """Raise a LakeError unless Spark answers, computes exactly, and lets this user create Delta tables."""
        self._use(f"{self._settings.lake_schema}_doctor_{secrets.token_hex(4)}", "none", 0)
        self._operate("check_lake", location=self._settings.lake_location)

    def by_hand(self, arguments: Sequence[str]) -> Any:
        with connect(self._settings) as warehouse:
            self.use_last_build(warehouse)
            # The open connection keeps other builds out.
            return self.run(arguments, is_shown=True)

    def detach(self, warehouse: duckdb.DuckDBPyConnection) -> str:
        """Copy the raw rows from Spark into the warehouse, and detach it from Spark.

        Returns:
            The schema on Spark, which Tallymark no longer needs.
        """
        self.use_last_build(warehouse)
        with ExitStack() as open_files:
            files = {
                name: open_files.enter_context(self._collected("table", name=name))
                for name in ("transactions", "customer_importance")
            }
            warehouse.execute("set variable files = $files", {"files": files})
            run_sql(warehouse, "lake/detach")
        return self._environment["LAKE_SCHEMA"]

    def fetch(
        self, warehouse: duckdb.DuckDBPyConnection, table: str, chunks: tuple[int, int] | None = None
    ) -> duckdb.DuckDBPyRelation:
        if table not in MOVED:
            return rows_of(warehouse, table, chunks)
        self.use_last_build(warehouse)
        with self._collected("table", name=table.removeprefix("raw."), chunks=chunks) as files:
            warehouse.execute("set variable files = $files", {"files": files})
            warehouse.execute("create or replace temp table fetched as from read_parquet(getvariable('files'))")
        return warehouse.table("fetched")

    def _prepare(self, warehouse: duckdb.DuckDBPyConnection, full_refresh: bool) -> None:
        """Move the rows of new chunks and new customer importance to Spark, and create the sources of a new build."""
        build = f"build_{secrets.token_hex(4)}"
        schema = self._schema(warehouse)
        known = [name for (name,) in warehouse.execute("select build from lake.builds").fetchall()]
        released, synced, smallest, largest, is_finished = fetch_row(
            warehouse,
            """
            with last_release as (
                select coalesce(max(chunk_seq), 0) as released from output.releases
            )

            select
                released,
                (select max(released) from lake.builds),
                coalesce(max(chunk_seq) filter (state = 'accepted' and rows_accepted > 0 and chunk_seq <= released), 0),
                coalesce(max(chunk_seq), 0),
                (select coalesce(bool_or(is_finished), false) from lake.builds)
            from last_release
            left join raw.chunks on true
            group by released
            """,
        )
        self._use(schema, build, released)
        with transaction(warehouse):
            warehouse.execute("delete from output.passed_builds")
            warehouse.execute(
                """
                insert into lake.builds (build_number, build, is_finished)
                select coalesce(max(build_number), 0) + 1, ?, false from lake.builds
                """,
                [build],
            )
            warehouse.execute(
                "delete from lake.builds where build_number <= (select max(build_number) from lake.builds) - ?",
                [BUILDS_KEPT],
            )
        is_whole = full_refresh or synced is None
        with transaction(warehouse):
            loads = [*self._move_transactions(warehouse), *self._move_importance(warehouse)]
            self._create_views(warehouse, 0 if is_whole else synced, released, largest)
            marks = {"told": synced, "smallest": smallest, "largest": largest}
            self._operate(
                "prepare_build",
                build=build,
                previous=[] if is_whole else known,
                marks=marks if is_finished and not is_whole else None,
                location=self._settings.lake_location,
                loads=loads,
                is_whole=is_whole,
                sources=self._stage(warehouse, SOURCES),
            )
            warehouse.execute(
                "update lake.builds set released = ?, last_chunk_seq = ? where build = ?", [released, largest, build]
            )
        self._staging.keep_only(build)

    def _schema(self, warehouse: duckdb.DuckDBPyConnection) -> str:
        """Return the schema of this warehouse on Spark. Each warehouse has its own, so their rows cannot mix."""
        if known := warehouse.execute("select schema_name from lake.about").fetchone():
            return known[0]
        if warehouse.execute("from duckdb_tables() where table_name = 'merchant_customers'").fetchone():
            raise LakeError(
                f"The warehouse {self._settings.warehouse} holds its raw rows and state itself. Move them to Spark "
                f"first: tallymark migrate-engine {self._settings.engine}"
            )
        schema = f"{self._settings.lake_schema}_{secrets.token_hex(4)}"
        warehouse.execute("insert into lake.about values (?)", [schema])
        return schema

    def _use(self, schema: str, build: str, released: int) -> None:
        self._build = build
        self._staging = Staging(self._settings, self._store, schema)
        self._environment = {"LAKE_SCHEMA": schema, "LAKE_BUILD": build, "LAKE_RELEASED": str(released)}
        self._manifest = None

    def use_last_build(self, warehouse: duckdb.DuckDBPyConnection) -> int:
        """Use the tables of the last build.

        Returns:
            The chunk_seq of the last chunk in that build.

        Raises:
            LakeError: when the last build did not reach Spark.
        """
        found = warehouse.execute(
            """
            select
                (select schema_name from lake.about),
                build,
                (select coalesce(max(chunk_seq), 0) from output.releases),
                last_chunk_seq
            from lake.builds
            order by build_number desc
            limit 1
            """
        ).fetchone()
        if found is None or found[-1] is None:
            raise LakeError(
                f"The last build of the warehouse {self._settings.warehouse} did not reach Spark. Run: tallymark build"
            )
        *which, last = found
        self._use(*which)
        return last

    def _move_transactions(self, warehouse: duckdb.DuckDBPyConnection) -> Iterator[dict[str, str]]:
        warehouse.execute(
            """
            create or replace temp table moving as
            select chunk_seq, cast((sum(count(*)) over (order by chunk_seq) - 1) // $most as bigint) as number
            from raw.transactions
            group by chunk_seq
            """,
            {"most": ROWS_PER_LOAD},
        )
        for (number,) in warehouse.execute("select distinct number from moving order by number").fetchall():
            yield self._move(
                warehouse,
                "raw_transactions",
                "select transactions.* from raw.transactions as transactions inner join moving using (chunk_seq) "
                "where number = $number order by chunk_seq, line_number",
                "insert into lake.loads select $load_id, chunk_seq, null from moving where number = $number",
                number=number,
            )
        warehouse.execute("delete from raw.transactions")

    def _move_importance(self, warehouse: duckdb.DuckDBPyConnection) -> Iterator[dict[str, str]]:
        versions = warehouse.execute("select distinct importance_version from raw.customer_importance order by 1")
        for (version,) in versions.fetchall():
            yield self._move(
                warehouse,
                "raw_customer_importance",
                "from raw.customer_importance where importance_version = $number",
                "insert into lake.loads values ($load_id, null, $number)",
                number=version,
            )
        warehouse.execute("delete from raw.customer_importance")

    def _move(
        self, warehouse: duckdb.DuckDBPyConnection, table: str, rows: str, record: str, number: int
    ) -> dict[str, str]:
        load_id = secrets.token_hex(8)
        folder = self._staging.put(f"{self._build}/{load_id}", warehouse, rows, number=number)
        warehouse.execute(record, {"load_id": load_id, "number": number})
        return {"table": table, "load_id": load_id, "folder": folder}

    def _create_views(self, warehouse: duckdb.DuckDBPyConnection, synced: int, rejected_after: int, last: int) -> None:
        """Create the views of sources.sql, and ``near_pairs``.

        Args:
            synced: the last released chunk_seq that Spark already has.
            rejected_after: leave out the rejected rows up to this chunk_seq.
            last: the last chunk_seq of the build.
        """
        released = int(self._environment["LAKE_RELEASED"])
        bounds = {"released": released, "synced": synced, "rejected_after": rejected_after, "last": last}
        warehouse.execute("set variable bounds = $bounds", {"bounds": bounds})
        run_sql(warehouse, "lake/sources")
        nearest = "from duckdb_tables() where schema_name = 'snapshot' and table_name = 'nearest'"
        warehouse.execute(NEAR_PAIRS if warehouse.execute(nearest).fetchone() else NO_NEAR_PAIRS)

    def _stage(self, warehouse: duckdb.DuckDBPyConnection, tables: Sequence[str]) -> dict[str, str]:
        """Write tables or views to staging. Returns their folders by name."""
        unique = secrets.token_hex(4)
        return {
            table: self._staging.put(
                f"{self._build}/{table}_{unique}", warehouse, "from query_table($table)", table=table
            )
            for table in tables
        }

    def _must_be_last(self, warehouse: duckdb.DuckDBPyConnection) -> None:
        (last,) = fetch_row(warehouse, "select arg_max(build, build_number) from lake.builds")
        if last != self._build:
            raise LakeError(
                "Another build of this warehouse started while this one ran, so this one was discarded. The other one "
                "takes the same chunks. If this was a full refresh, pause the DAG and run it again."
            )

    def _collect_build(self, warehouse: duckdb.DuckDBPyConnection, full_refresh: bool) -> None:
        """Copy the results of the build into the warehouse, in one transaction."""
        after = 0
        if not full_refresh and warehouse.execute("from duckdb_tables() where table_name = 'merchants'").fetchone():
            (after,) = fetch_row(warehouse, "select coalesce(max(last_chunk_seq), 0) from merchants")
        folder = self._collect("build", merchants_after=after)
        with ExitStack() as open_files:
            files = {name: open_files.enter_context(self._staging.files(f"{folder}/{name}")) for name in RESULTS}
            warehouse.execute("set variable files = $files", {"files": files})
            with transaction(warehouse):
                run_sql(warehouse, "lake/collect")
                warehouse.execute("update lake.builds set is_finished = true where build = ?", [self._build])

    @contextmanager
    def _collected(self, what: str, **arguments: Any) -> Iterator[list[str]]:
        folder = self._collect(what, **arguments)
        with self._staging.files(f"{folder}/{what}") as files:
            yield files

    def _collect(self, what: str, **arguments: Any) -> str:
        """Let Spark write results to a new folder of the build, with a macro of dbt_project/macros/lake/collect.sql.

        Returns:
            The folder below the staging area.
        """
        folder = f"{self._build}/collect_{what}_{secrets.token_hex(4)}"
        self._operate(f"collect_{what}", folder=f"{self._staging.uri}{folder}", **arguments)
        return folder

    def _operate(self, macro: str, **arguments: Any) -> None:
        """Run a macro of dbt_project/macros/lake."""
        messages: list[str] = []
        command = ["run-operation", macro, "--args", json.dumps(arguments)]
        result = self.run(command, on_message=messages.append)
        if not result.success:
            why = result.exception or "\n".join(messages)
            raise LakeError(
                machine.explain(why, self._settings.warehouse) or f"A statement failed on Spark (macro {macro}): {why}"
            )

    def run(
        self, command: Sequence[str], on_message: Callable[[str], None] | None = None, is_shown: bool = False
    ) -> Any:
        """Run a dbt command on Spark. Returns a dbtRunnerResult.

        Args:
            on_message: called with the text of each warning and error.
            is_shown: whether dbt prints its progress.

        Raises:
            LakeError: when the packages for Spark are missing or the server does not answer.
        """
        with _fit_session():
            if host := self._settings.engine == "databricks" and os.environ.get("DATABRICKS_HOST"):
                _must_answer(host)
            return invoke(
                self._settings,
                list(command),
                self.manifest(),
                on_message=on_message,
                target=self._settings.engine,
                environment=self._environment,
                is_shown=is_shown,
            )


@contextmanager
def _fit_session() -> Iterator[None]:
    """Keep ANSI mode on, which turns overflows into errors. dbt-spark 1.11 turns it off in each session.

    Each build checks this with the macro must_be_exact.
    """
    # pyspark mistakes a process without a main file, such as one from a fork server, for a doctest, and ends it.
    main = sys.modules["__main__"]
    main.__file__ = getattr(main, "__file__", __file__)
    try:
        from dbt.adapters.spark.connections import SparkCredentials
    except ImportError as error:
        raise LakeError(
            "The packages for Spark are not installed. Install them: pip install -r requirements-spark.txt "
            "(see docs/spark.md)"
        ) from error
    if remote := os.environ.get("SPARK_REMOTE"):
        _connect(remote)
    turn_off = SparkCredentials.__post_init__

    def keep_on(self: Any) -> None:
        turn_off(self)
        self.server_side_parameters.update(SESSION)

    with patch.object(SparkCredentials, "__post_init__", keep_on):
        yield


def _must_answer(host: str) -> None:
    """Raise a LakeError unless Databricks answers over HTTPS. Its own client would retry for many minutes."""
    try:
        requests.head(f"https://{host}", timeout=10)
    except requests.RequestException as error:
        raise LakeError(
            f"Databricks does not answer at {host} ({error}). Correct the address, or check the network; {CONTINUES}"
        ) from error


def _connect(remote: str) -> None:
    """Open the Spark Connect session that dbt will use.

    Raises:
        LakeError: when the server does not answer. Spark's own client would retry for ten minutes, and again at the
            end of the process.
    """
    from pyspark.sql import SparkSession
    from pyspark.sql.connect.client.retries import DefaultPolicy

    server = urlsplit(remote)
    try:
        socket.create_connection((server.hostname, server.port or SPARK_CONNECT_PORT), timeout=10).close()
    except OSError as error:
        raise LakeError(
            f"Spark does not answer at SPARK_REMOTE={remote.partition(';')[0]} ({error}). Start the server, or correct "
            f"the address; {CONTINUES}"
        ) from error
    # dbt-spark asks for Hive support, which is a setting of the server.
    warnings.filterwarnings("ignore", "Failed to set spark.sql.catalogImplementation")
    session = SparkSession.builder.remote(remote).getOrCreate()
    session.client.set_retry_policies([DefaultPolicy(max_retries=RETRIES)])
