"""Alerts: sent once when a condition begins and once when it ends.

A small JSON file next to the warehouse holds the current conditions and the lines that are not sent yet.
"""

import json
import logging
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import duckdb

from tallymark import machine
from tallymark.settings import Settings
from tallymark.warehouse.connection import connect, run_sql, utc_now
from tallymark.warehouse.ledger_index import LedgerIndex

log = logging.getLogger(__name__)

RETRY_SECONDS = 300
MAX_UNSENT = 100
FAILED_RUN, STALLED_STREAM = "failed run", "stream stalled"


# Sends lines to all recipients. Returns false if it reached none of them; never raises.
Send = Callable[[Settings, list[str]], bool]


class Condition(NamedTuple):
    """A problem that somebody should know about.

    Attributes:
        kind: such as ``rejected chunk``.
        about: the subject, such as a key; kind and subject identify a condition.
        message: one or more sentences for people.
    """

    kind: str
    about: str
    message: str


class State(NamedTuple):
    """Content of the JSON file.

    Attributes:
        current: the conditions that have begun and not ended.
        unsent: lines that are not sent yet.
        not_before: when sending may be retried, in seconds since 1970.
    """

    current: list[Condition]
    unsent: list[str]
    not_before: float


def conditions(settings: Settings, warehouse: duckdb.DuckDBPyConnection) -> list[Condition]:
    """Current conditions in the warehouse, after an export."""
    run_sql(warehouse, "intake/open_issues")
    run_sql(warehouse, "publish/landing_to_file")
    found = run_sql(
        warehouse,
        "publish/alert_conditions",
        now=utc_now(),
        lag_limit=settings.lag_limit_seconds,
        quiet_seconds=settings.alert_quiet_hours * 3600,
        many_times=settings.alert_many_times,
    )
    return [Condition(*row) for row in found.fetchall()]


class Alerts:
    """Tells recipients when a condition begins and when it ends.

    Alerts that cannot be sent are retried later. An error here never fails a run.
    """

    def __init__(self, settings: Settings, send: Send):
        self._settings = settings
        self._send = send
        self._file = settings.warehouse.with_name(f"{settings.warehouse.name}.alerts.json")

    def after_export(self, found: Iterable[Condition]) -> None:
        """Update the conditions after an export; those that are not in ``found`` have ended."""
        self._update(found, lambda kind: True)

    def run_failed(self, run_id: str, task_id: str, error: BaseException | None) -> None:
        """Add a failed run to the conditions. It ends with the next run that succeeds."""
        text = machine.message(error) if error else "The process was killed or timed out."
        reason = next(iter(text.splitlines()), "").removesuffix(".")
        message = f"{run_id} failed in {task_id}: {reason}. Nothing is lost; the next run continues where it stopped."
        self._update([Condition(FAILED_RUN, "detect_patterns", message)], lambda kind: False)

    def nothing_landed(self) -> None:
        """Update the conditions after a run without work.

        The stream counts as stalled when no chunk was taken for ``stalled_seconds``.
        """
        settings = self._settings
        if not settings.warehouse.exists():
            with connect(settings):
                log.info("Created the warehouse %s", settings.warehouse)
        index = LedgerIndex(settings.warehouse, settings.limits)
        taken_at = index.taken_at()
        if taken_at is None:
            return
        idle = time.time() - taken_at
        minutes = round(idle / 60)
        message = f"No chunk has landed for {minutes} {'minute' if minutes == 1 else 'minutes'}."
        if not index.last_keys(1):
            message += (
                f" Tallymark has never seen a chunk. Check the feed, the bucket {settings.bucket} (TALLYMARK_BUCKET) "
                f"and the prefix {settings.transactions_prefix} (TALLYMARK_TRANSACTIONS_PREFIX)."
            )
        stalled = Condition(STALLED_STREAM, settings.transactions_prefix, message)
        found = [stalled] if idle > settings.stalled_seconds else []
        self._update(found, lambda kind: kind == FAILED_RUN and not index.has_unfinished_work())

    def _update(self, found: Iterable[Condition], can_end: Callable[[str], bool]) -> None:
        """Record and send the conditions that began, and those that ended.

        Args:
            can_end: whether conditions of a kind have ended if they are not in ``found``.
        """
        try:
            before = self._read()
            known = {condition[:2]: condition for condition in before.current}
            now = {condition[:2]: condition for condition in found}
            ended = [condition for name, condition in known.items() if name not in now and can_end(condition.kind)]
            began = [condition for name, condition in now.items() if name not in known]
            lines = [f"{condition.kind.upper()}: {condition.about}: {condition.message}" for condition in began]
            lines += [f"OVER: {condition.kind}: {condition.about}" for condition in ended]
            for line in lines:
                log.warning("ALERT %s", line)
            current = [condition for condition in known.values() if condition not in ended] + began
            unsent = (before.unsent + lines)[-MAX_UNSENT:]
            if lines:
                self._write(State(current, unsent, before.not_before))
            if unsent and time.time() >= before.not_before:
                is_sent = self._send(self._settings, unsent)
                self._write(State(current, [], 0) if is_sent else State(current, unsent, time.time() + RETRY_SECONDS))
        except Exception:
            log.exception("Failed to process alerts")

    def _read(self) -> State:
        try:
            current, unsent, not_before = json.loads(self._file.read_text())
        except (FileNotFoundError, ValueError):
            return State([], [], 0)
        return State([Condition(*fields) for fields in current], unsent, not_before)

    def _write(self, state: State) -> None:
        unfinished = self._file.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(state))
        unfinished.replace(self._file)
