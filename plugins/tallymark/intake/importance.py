"""Loading of the customer importance: versions of the weights below its prefix. Repeated rows count."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from tallymark.errors import UserError
from tallymark.intake import folders
from tallymark.intake.chunks import Ignored, misnamed
from tallymark.intake.errors import RejectedError
from tallymark.intake.ledger import forget_readable, record_unreadable
from tallymark.intake.reading import Attempts, Content, fetch
from tallymark.intake.rejected import RejectedFiles
from tallymark.intake.rows import IMPORTANCE, insert_importance, validated, warnings_on_ids
from tallymark.settings import Settings
from tallymark.store import Get, Store, StoredObject, UnreadableError
from tallymark.warehouse.connection import fetch_row, transaction, utc_now

log = logging.getLogger(__name__)


class UnsettledError(UserError, RuntimeError):
    """The first customer importance is still being written."""


@dataclass(frozen=True)
class ImportanceSet:
    """The objects below the prefix of the customer importance.

    Attributes:
        prefix: the prefix of the customer importance.
        plain: objects outside folders with commit markers; each counts individually.
        folders: key -> all objects, for each folder with commit markers.
        ignored: names below the prefix that are neither input nor files that accompany it.
    """

    prefix: str
    plain: Sequence[StoredObject]
    folders: dict[str, list[StoredObject]]
    ignored: Sequence[str]

    @property
    def digest(self) -> str:
        """SHA-256 of the keys and ETags of all objects that may count and of their markers; empty if there are none."""
        found = list(self.plain)
        for key, members in self.folders.items():
            found += folders.parts_of(key, members)
            found += [marker for marker in folders.markers_of(key, members) if marker.size]
        return folders.digest_of(sorted(found, key=lambda stored: stored.key)) if found else ""

    def is_settled(self, settle_seconds: float) -> bool:
        """Return whether all folders are complete."""
        settled = folders.settled_before(settle_seconds)
        return all(folders.is_complete(key, members, settled) for key, members in self.folders.items())

    def parts(self, get: Get) -> list[StoredObject]:
        """Return the objects that count, sorted by key.

        Raises:
            RejectedError: when a folder contradicts its commit protocol.
        """
        found = list(self.plain)
        for key, members in self.folders.items():
            try:
                found += folders.committed_parts(get, key, members)
            except RejectedError as error:
                raise RejectedError(f"{key.removeprefix(self.prefix)} {error}".lstrip(), error.limit) from error
        return sorted(found, key=lambda stored: stored.key)


def find_set(store: Store, prefix: str) -> ImportanceSet:
    """List the objects below the prefix of the customer importance."""
    roots: list[str] = []
    objects = sorted(store.list(prefix), key=lambda stored: stored.key)
    for wanted in (folders.SUCCESS, folders.COMMITTED):
        for stored in objects:
            directory, _, name = stored.key.rpartition("/")
            root = f"{directory}/" if directory else ""
            if name.startswith(wanted) and root.startswith(prefix) and not root.startswith(tuple(roots)):
                roots.append(root)
    plain, ignored, members = [], set(), defaultdict(list)
    for stored in objects:
        name = stored.key.removeprefix(prefix)
        within = next((root for root in roots if stored.key.startswith(root)), None)
        if within is not None and folders.is_input(f"{within.removeprefix(prefix)}x"):
            members[within].append(stored)
        elif folders.is_input(name):
            plain.append(stored)
        elif not folders.is_companion(name):
            ignored.add(name.partition("/")[0] + ("/" if "/" in name else ""))
    return ImportanceSet(prefix, plain, dict(members), sorted(ignored))


def ignored_importance(found: ImportanceSet) -> list[Ignored]:
    """Return the names below the prefix that are not read, as one entry, or none."""
    if not found.ignored:
        return []
    names, them = misnamed(found.ignored), "it" if len(found.ignored) == 1 else "them"
    return [
        Ignored("ignored objects", found.prefix, f"{names} not read as customer importance. Rename or move {them}.")
    ]


class ImportanceLoader:
    """Loads versions of the customer importance into the warehouse. Call ``create_ledger_views`` first."""

    def __init__(self, settings: Settings, warehouse: duckdb.DuckDBPyConnection):
        self._settings = settings
        self._warehouse = warehouse
        warehouse.execute(
            """
            create or replace temp view known_importance as
            select importance_version, digest, state
            from raw.importance_versions
            where
                limit_setting is null
                or (limit_setting, limit_bytes) in (select (setting, bytes) from limits_in_force)
            """
        )

    def load(self, found: ImportanceSet, attempts: Attempts) -> int | None:
        """Load the current set of objects unless it is known, and return the version to use.

        Versions are numbered from 1. Content that was loaded before keeps its number. A rejected set gets a number too,
        but the last good version stays in use, as it does while a set cannot be read or is incomplete. A set that was
        rejected because of a limit is read again, as a new version, when that limit has changed.

        Returns:
            The number of the version to use, or None if there is no set or no good version.

        Raises:
            UnreadableError: when the first set cannot be read.
            UnsettledError: when the first set is incomplete.
        """
        digest = found.digest
        if not digest:
            forget_readable(self._warehouse, [found.prefix])
            log.warning(
                "There is no customer importance below %s. PatId1 cannot detect anything; other patterns are not "
                "affected.",
                found.prefix,
            )
            return None
        known = self._find_version(digest)
        if known is None:
            is_first = self._warehouse.execute("select 1 from raw.importance_versions limit 1").fetchone() is None
            if not found.is_settled(self._settings.folder_settle_seconds):
                if is_first:
                    raise UnsettledError(
                        f"The customer importance below {found.prefix} is not complete yet, so no chunk was taken. The "
                        "next run will retry. If this persists, put the missing _SUCCESS marker into its folder."
                    )
                return self._last_good()
            if self._is_paused(found.prefix, digest):
                return self._last_good()
            try:
                known = self._read(found, attempts, digest)
            except UnreadableError as error:
                if is_first:
                    raise
                record_unreadable(self._warehouse, "customer importance", found.prefix, digest, str(error))
                good = self._last_good()
                log.error(
                    "UNREADABLE: customer importance. %s. It will be retried. %s",
                    f"Version {good} stays in use" if good else "There is no good version",
                    error,
                )
                return good
        forget_readable(self._warehouse, [found.prefix])
        version, state = known
        self._note_return(version)
        if state == "accepted":
            return version
        good = self._last_good()
        stays = f"Version {good}, the last good one, stays in use" if good else "There is no good version"
        log.error("Customer importance version %d was rejected. %s.", version, stays)
        return good

    def restore(self, store: Store, versions: dict[int, dict[str, str | None]]) -> None:
        """Restore the versions of a lost warehouse under their numbers.

        The version that the bucket still holds gets its rows. The others get state ``lost`` and no digest; if such
        content returns to the bucket, it gets a new number.

        Args:
            versions: version number -> ``digest`` and ``content_sha256``.
        """
        found = find_set(store, self._settings.customers_prefix)
        content = None
        if found.digest:
            try:
                content = self._fetch(found, store.get)
            except RejectedError as error:
                log.warning("The customer importance in the bucket cannot be read: %s", error)
        for number, version in versions.items():
            if content and version.get("content_sha256") == content.sha256:
                self._write(content, None, found.digest, number)
            else:
                reason = "was replaced in the bucket before the warehouse was rebuilt"
                self._warehouse.execute(
                    "insert into raw.importance_versions (importance_version, state, reason, rows_accepted, "
                    "rows_rejected, loaded_at) values (?, 'lost', ?, 0, 0, ?)",
                    [number, reason, utc_now()],
                )

    def _fetch(self, found: ImportanceSet, get: Get) -> Content:
        return fetch(get, found.prefix, found.parts(get), self._settings.max_object_bytes)

    def _read(self, found: ImportanceSet, attempts: Attempts, digest: str) -> tuple[int, str]:
        """Read a set with an unknown digest; returns number and state of the version with its content, new or known."""
        content, rejected = None, None
        try:
            content = attempts.read(found.prefix, lambda get: self._fetch(found, get))
        except RejectedError as error:
            rejected = error
        else:
            same = self._warehouse.execute(
                """
                update raw.importance_versions set digest = $digest
                where
                    content_sha256 = $content_sha256
                    and importance_version in (select importance_version from known_importance)
                returning importance_version, state
                """,
                {"digest": digest, "content_sha256": content.sha256},
            ).fetchone()
            if same:
                return same
        number = fetch_row(
            self._warehouse, "select coalesce(max(importance_version), 0) + 1 from raw.importance_versions"
        )[0]
        return number, self._write(content, rejected, digest, number)

    def _last_good(self) -> int | None:
        return fetch_row(
            self._warehouse,
            "select max_by(importance_version, loaded_at) from raw.importance_versions where state = 'accepted'",
        )[0]

    def _is_paused(self, prefix: str, digest: str) -> bool:
        """Return whether a set could not be read before and its next attempt is not due yet."""
        paused = "from raw.unreadable_inputs where input_key = ? and etag = ? and retry_at > ?"
        return self._warehouse.execute(paused, [prefix, digest, utc_now()]).fetchone() is not None

    def _find_version(self, digest: str) -> tuple[int, str] | None:
        """Return number and state of the version with a digest, or None if the set must be read."""
        return self._warehouse.execute(
            "select importance_version, state from known_importance where digest = ? order by importance_version desc",
            [digest],
        ).fetchone()

    def _note_return(self, version: int) -> None:
        """Update ``loaded_at`` of a version that is back in use, so that the version seen last is always the latest."""
        self._warehouse.execute(
            """
            update raw.importance_versions set loaded_at = $now
            where importance_version = $version and loaded_at < (select max(loaded_at) from raw.importance_versions)
            """,
            {"version": version, "now": utc_now()},
        )

    def _write(self, content: Content | None, rejected: RejectedError | None, digest: str, version: int) -> str:
        """Write a version and return its state.

        Args:
            content: the fetched objects; None if ``rejected`` has the reason why they were not fetched.
        """
        warehouse, files = self._warehouse, []
        if content:
            try:
                files = content.as_csv(IMPORTANCE, self._settings.max_decompressed_bytes)
            except RejectedError as error:
                rejected = error
        reason, limit = (str(rejected), rejected.limit) if rejected else (None, None)
        with transaction(warehouse):
            for file in files:
                with validated(warehouse, [file], "importance", self._settings.missing_values) as by_lines:
                    insert_importance(warehouse, file, version)
                    if by_lines:
                        for warning in warnings_on_ids(
                            warehouse, [f"{file.key} (customer importance version {version})"]
                        ):
                            log.warning(warning)
            accepted_rows, rejected_rows = fetch_row(
                warehouse,
                """
                select
                    (select count(*) from raw.customer_importance where importance_version = $version),
                    (select count(*) from raw.rejected_rows where importance_version = $version)
                """,
                {"version": version},
            )
            if rejected_rows and not accepted_rows:
                reason = f"has no valid rows ({rejected_rows} rejected)"
            if reason:
                log.error("REJECTED: customer importance version %d: %s.", version, reason)
            state = "rejected" if reason else "accepted"
            warehouse.execute(
                "insert into raw.importance_versions (importance_version, digest, content_sha256, state, reason, "
                "limit_setting, limit_bytes, rows_accepted, rows_rejected, loaded_at) "
                "values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    *(version, digest, content and content.sha256, state, reason, *(limit or (None, None))),
                    *(accepted_rows, rejected_rows, utc_now()),
                ],
            )
            if rejected_rows or reason:
                RejectedFiles(self._settings, warehouse).plan_version(version)
        log.info("customer importance version %d: %d rows accepted, %d rejected", version, accepted_rows, rejected_rows)
        return state
