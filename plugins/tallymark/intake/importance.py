"""Customer importance: versions of the multiset of weights under ``input/customers/``."""

import hashlib
import logging

import duckdb

from tallymark.intake.chunks import is_input
from tallymark.intake.csv_lines import Columns, RejectedError, read_csv_objects
from tallymark.intake.judging import insert_rejected_rows, judged, remarks_on_ids
from tallymark.intake.ledger import ledger_views
from tallymark.intake.rejected import plan_rejected_file
from tallymark.settings import Settings
from tallymark.store import Store, StoredObject, UnreadableError
from tallymark.warehouse.connection import run_sql, transaction, utc_now

log = logging.getLogger(__name__)

IMPORTANCE = Columns(required=("customer", "merchant", "weight"), aliases={"source": "customer", "target": "merchant"})


def load_customer_importance(settings: Settings, store: Store, warehouse: duckdb.DuckDBPyConnection) -> int | None:
    """Load the objects under the prefix if they changed; returns the number of the version in force.

    Versions count from 1. A set of objects that was loaded before keeps its number. A set that cannot be
    read is recorded as rejected, and the last good version stays in force; so it does while S3 refuses the set. One
    that was rejected for a limit that has changed since is read again, as a new version. None: there is no set, or no
    good one.

    Raises:
        UnreadableError: when S3 refuses the set, and no version before it was good.
    """
    objects, digest = _current_set(settings, store)
    if not objects:
        log.warning(
            "There is no customer importance under %s: PatId1 cannot fire, the other patterns work.",
            settings.customers_prefix,
        )
        return None
    found = _find_version(settings, warehouse, digest)
    if not found:
        number = warehouse.execute(
            "select coalesce(max(importance_version), 0) + 1 from raw.importance_versions"
        ).fetchone()[0]
        try:
            found = number, _load_version(settings, store, warehouse, objects, digest, number)
        except UnreadableError as error:
            good = _last_good(warehouse)
            if good is None:
                raise
            log.error("WAITS: customer importance, so version %d stays in force. It is tried again. %s", good, error)
            return good
    version, state = found
    _note_return(warehouse, version)
    if state == "accepted":
        return version
    good = _last_good(warehouse)
    stays = f"version {good}, the last good one, stays in force" if good else "no version before it was good"
    log.error("Customer importance version %d was rejected; %s.", version, stays)
    return good


def _last_good(warehouse: duckdb.DuckDBPyConnection) -> int | None:
    return warehouse.execute(
        "select max_by(importance_version, loaded_at) from raw.importance_versions where state = 'accepted'"
    ).fetchone()[0]


def restore_versions(
    settings: Settings, store: Store, warehouse: duckdb.DuckDBPyConnection, versions: dict[int, str | None]
) -> None:
    """Give versions of another warehouse their numbers; the rows of those that the bucket still holds are loaded.

    The others are in state ``lost``, without a digest, so that a set which comes back gets a number of its own.

    Args:
        versions: digests by number.
    """
    objects, current = _current_set(settings, store)
    for number, digest in versions.items():
        if digest == current:
            _load_version(settings, store, warehouse, objects, digest, number)
        else:
            reason = "was replaced in the bucket before the warehouse was made again"
            warehouse.execute(
                "insert into raw.importance_versions values (?, null, null, 'lost', ?, 0, 0, ?)",
                [number, reason, utc_now()],
            )


def _current_set(settings: Settings, store: Store) -> tuple[list[StoredObject], str]:
    """The objects under the prefix that are input, in order of their keys, and a SHA-256 over keys and ETags."""
    prefix = settings.customers_prefix
    objects = [stored for stored in store.list(prefix) if is_input(stored.key.removeprefix(prefix))]
    objects.sort(key=lambda stored: stored.key)
    return objects, hashlib.sha256("".join(f"{stored.key}\0{stored.etag}\n" for stored in objects).encode()).hexdigest()


def _find_version(settings: Settings, warehouse: duckdb.DuckDBPyConnection, digest: str) -> tuple[int, str] | None:
    """Number and state of a set of objects; None: it has to be read."""
    ledger_views(warehouse)
    found = warehouse.execute(
        """
        select importance_version, state
        from raw.importance_versions
        where
            digest = $digest
            and (rejected_by_limit(reason) is null or list_contains($limits, rejected_by_limit(reason)))
        order by importance_version desc
        limit 1
        """,
        {"digest": digest, "limits": settings.limits},
    )
    return found.fetchone()


def _note_return(warehouse: duckdb.DuckDBPyConnection, version: int) -> None:
    """Move ``loaded_at`` of a version that came back after another one, so that the last one found is the latest."""
    warehouse.execute(
        """
        update raw.importance_versions set loaded_at = $now
        where importance_version = $version and loaded_at < (select max(loaded_at) from raw.importance_versions)
        """,
        {"version": version, "now": utc_now()},
    )


def _load_version(
    settings: Settings,
    store: Store,
    warehouse: duckdb.DuckDBPyConnection,
    objects: list[StoredObject],
    digest: str,
    version: int,
) -> str:
    reason = None
    try:
        files = read_csv_objects(settings, store.get, settings.customers_prefix, objects, IMPORTANCE)
    except RejectedError as error:
        files, reason = [], str(error)
        log.error("REJECTED customer importance: %s", reason)
    with transaction(warehouse):
        for file in files:
            with judged(warehouse, [file], "importance", settings.missing_values) as by_lines:
                (inserted,) = run_sql(warehouse, "intake/insert_importance", version=version).fetchone()
                if inserted < file.rows:
                    insert_rejected_rows(warehouse, [file], [None], version)
                if by_lines:
                    for remark in remarks_on_ids(warehouse, [f"{file.key} (customer importance version {version})"]):
                        log.warning(remark)
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
            "insert into raw.importance_versions values (?, ?, null, ?, ?, ?, ?, ?)",
            [version, digest, state, reason, accepted, rejected, utc_now()],
        )
        if rejected or reason:
            plan_rejected_file(settings, warehouse, f"customer_importance-{version}", None, version)
    log.info("customer importance version %d: %d rows accepted, %d rejected", version, accepted, rejected)
    return state
