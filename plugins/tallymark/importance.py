"""Customer importance: versions of the multiset of weights under ``input/customers/``."""

import hashlib
import logging

import duckdb

from tallymark import output
from tallymark.csv_lines import Columns, RejectedError, judge_rows, read_csv_objects
from tallymark.settings import Settings
from tallymark.store import Store, StoredObject
from tallymark.warehouse import run_sql, transaction, utc_now

log = logging.getLogger(__name__)

IMPORTANCE = Columns(required=("customer", "merchant", "weight"), aliases={"source": "customer", "target": "merchant"})


def load_customer_importance(settings: Settings, store: Store, warehouse: duckdb.DuckDBPyConnection) -> int | None:
    """Load the objects under the prefix if they changed; returns the number of the version in force.

    Versions count from 1. A set of objects that was loaded before keeps its number. A set that cannot be
    read is recorded as rejected, and the version before it stays in force. None: there never was any.
    """
    objects = sorted(
        (stored for stored in store.list(settings.customers_prefix) if not _is_marker(stored.key)),
        key=lambda stored: stored.key,
    )
    if not objects:
        log.warning(
            "There is no customer importance under %s: PatId1 cannot fire, the other patterns work.",
            settings.customers_prefix,
        )
        return None
    digest = hashlib.sha256("".join(f"{stored.key}\0{stored.etag}\n" for stored in objects).encode()).hexdigest()
    version, state = _find_version(warehouse, digest) or _load_version(settings, store, warehouse, objects, digest)
    if state == "accepted":
        return version
    log.error("Customer importance version %d was rejected; the one before it stays in force.", version)
    last = warehouse.execute("select importance_version from raw.chunks order by chunk_seq desc limit 1").fetchone()
    return last and last[0]


def _find_version(warehouse: duckdb.DuckDBPyConnection, digest: str) -> tuple[int, str] | None:
    found = warehouse.execute(
        "select importance_version, state from raw.importance_versions where digest = ?", [digest]
    )
    return found.fetchone()


def _load_version(
    settings: Settings, store: Store, warehouse: duckdb.DuckDBPyConnection, objects: list[StoredObject], digest: str
) -> tuple[int, str]:
    version = warehouse.execute(
        "select coalesce(max(importance_version), 0) + 1 from raw.importance_versions"
    ).fetchone()[0]
    reason = None
    try:
        files = read_csv_objects(settings, store, objects, IMPORTANCE)
    except RejectedError as error:
        files, reason = [], str(error)
        log.error("REJECTED customer importance: %s", reason)
    with transaction(warehouse):
        for file in files:
            judge_rows(warehouse, file, "importance")
            run_sql(warehouse, "insert_importance", version=version)
            run_sql(warehouse, "insert_rejected_rows", chunk_seq=None, version=version, object_key=file.key)
        accepted, rejected = warehouse.execute(
            """
            select
                (select count(*) from raw.customer_importance where importance_version = $version),
                (select count(*) from raw.rejected_rows where importance_version = $version)
            """,
            {"version": version},
        ).fetchone()
        state = "rejected" if reason else "accepted"
        warehouse.execute(
            "insert into raw.importance_versions values (?, ?, ?, ?, ?, ?, ?)",
            [version, digest, state, reason, accepted, rejected, utc_now()],
        )
        if rejected:
            output.plan_rejected_rows(settings, warehouse, f"customer_importance-{version}", None, version)
    log.info("customer importance version %d: %d rows accepted, %d rejected", version, accepted, rejected)
    return version, state


def _is_marker(key: str) -> bool:
    name = key.rpartition("/")[2]
    return not name or name.startswith(("_", "."))
