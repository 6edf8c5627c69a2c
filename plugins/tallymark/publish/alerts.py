"""Alerts: sent once when a condition begins and once when it is over.

A small JSON file beside the warehouse has the conditions that are going on, and the lines that are still to be sent.
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

TRY_AGAIN_SECONDS = 300
MAX_UNSAID = 100
FAILED_RUN, STANDSTILL = "failed run", "stream stands still"


# Sends lines to all recipients; returns false when none was reached. It raises nothing.
Send = Callable[[Settings, list[str]], bool]


class Condition(NamedTuple):
    """Something that is not as it should be.

    Attributes:
        kind: such as ``rejected chunk``.
        about: what it is about, such as a key; with the kind, what tells one condition from another.
        message: a sentence for people.
    """

    kind: str
    about: str
    message: str


class State(NamedTuple):
    """What is kept in the file.

    Attributes:
        unsaid: lines that are still to be sent.
        not_before: when sending is tried again, in seconds since 1970.
    """

    going_on: list[Condition]
    unsaid: list[str]
    not_before: float


def conditions(settings: Settings, warehouse: duckdb.DuckDBPyConnection) -> list[Condition]:
    """What the warehouse tells after an export."""
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
    """Tells recipients when a condition begins and when it is over.

    What could not be sent is sent later. Nothing of it fails a run.
    """

    def __init__(self, settings: Settings, send: Send):
        self._settings = settings
        self._send = send
        self._file = settings.warehouse.with_name(f"{settings.warehouse.name}.alerts.json")

    def after_export(self, found: Iterable[Condition]) -> None:
        """A run exported: whatever is not among the conditions found is over."""
        self._update(found, lambda kind: True)

    def run_failed(self, run_id: str, task_id: str, error: BaseException | None) -> None:
        """A run failed. That is over with the next one that ends well."""
        said = machine.message(error) if error else "its process was killed or timed out."
        reason = next(iter(said.splitlines()), "")
        message = f"{run_id} failed in {task_id}: {reason} Nothing is lost; the next run goes on where it stopped."
        self._update([Condition(FAILED_RUN, "detect_patterns", message)], lambda kind: False)

    def nothing_landed(self) -> None:
        """A run had nothing to do; that no chunk was taken for ``standstill_seconds`` is a condition."""
        settings = self._settings
        if not settings.warehouse.exists():
            with connect(settings):
                log.info("The warehouse %s was created.", settings.warehouse)
        index = LedgerIndex(settings.warehouse, settings.limits)
        taken_at = index.taken_at()
        if taken_at is None:
            return
        idle = time.time() - taken_at
        message = f"No chunk has landed for {idle / 60:.0f} minutes."
        if not index.last_keys(1):
            message += (
                f" Tallymark has never seen one: check the feed, the bucket {settings.bucket} (TALLYMARK_BUCKET) and "
                f"the prefix {settings.transactions_prefix} (TALLYMARK_TRANSACTIONS_PREFIX)."
            )
        standstill = Condition(STANDSTILL, settings.transactions_prefix, message)
        found = [standstill] if idle > settings.standstill_seconds else []
        self._update(found, lambda kind: kind == FAILED_RUN and not index.has_unfinished_work())

    def _update(self, found: Iterable[Condition], is_over: Callable[[str], bool]) -> None:
        """Note what began and, among the kinds that can be over, what is; say it, now or when that works again."""
        try:
            kept = self._read()
            known = {condition[:2]: condition for condition in kept.going_on}
            current = {condition[:2]: condition for condition in found}
            over = [condition for name, condition in known.items() if name not in current and is_over(condition.kind)]
            began = [condition for name, condition in current.items() if name not in known]
            news = [f"{condition.kind.upper()}: {condition.about}: {condition.message}" for condition in began]
            news += [f"OVER: {condition.kind}: {condition.about}" for condition in over]
            for line in news:
                log.warning("ALERT %s", line)
            going_on = [condition for condition in known.values() if condition not in over] + began
            unsaid = (kept.unsaid + news)[-MAX_UNSAID:]
            if news:
                self._write(State(going_on, unsaid, kept.not_before))
            if unsaid and time.time() >= kept.not_before:
                said = self._send(self._settings, unsaid)
                self._write(
                    State(going_on, [], 0) if said else State(going_on, unsaid, time.time() + TRY_AGAIN_SECONDS)
                )
        except Exception:
            log.exception("Failed to process alerts")

    def _read(self) -> State:
        try:
            going_on, unsaid, not_before = json.loads(self._file.read_text())
        except (FileNotFoundError, ValueError):
            return State([], [], 0)
        return State([Condition(*fields) for fields in going_on], unsaid, not_before)

    def _write(self, state: State) -> None:
        unfinished = self._file.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(state))
        unfinished.replace(self._file)
