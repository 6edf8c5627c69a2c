"""The lock that DuckDB holds on the warehouse while a process has it open: others wait for it, then give up."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
from tenacity import (
    Retrying,
    before_sleep_log,
    retry,
    retry_if_exception,
    retry_if_result,
    stop_after_delay,
    wait_fixed,
)

log = logging.getLogger(__name__)

LOCKED = "lock on file"
LOCK_TIMEOUT_SECONDS = 30
PAUSE_SECONDS = 0.5


def is_locked(error: BaseException | None) -> bool:
    """Whether DuckDB reports that another process has the file open."""
    return isinstance(error, duckdb.IOException) and LOCKED in str(error)


@retry(
    retry=retry_if_exception(is_locked),
    stop=stop_after_delay(LOCK_TIMEOUT_SECONDS),
    wait=wait_fixed(PAUSE_SECONDS),
    before_sleep=before_sleep_log(log, logging.INFO),
    reraise=True,
)
def open_when_free(path: Path, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """Open a DuckDB file.

    Raises:
        duckdb.IOException: when it stays locked for ``LOCK_TIMEOUT_SECONDS``.
    """
    return duckdb.connect(str(path), read_only=read_only)


def run_when_free(command: Callable[[], Any]) -> Any:
    """Run a dbt command, which opens the warehouse itself; returns its result, the failed one if it stays locked."""
    return Retrying(
        retry=retry_if_result(_failed_by_lock),
        stop=stop_after_delay(LOCK_TIMEOUT_SECONDS),
        wait=wait_fixed(PAUSE_SECONDS),
        before_sleep=before_sleep_log(log, logging.INFO),
        retry_error_callback=lambda state: state.outcome and state.outcome.result(),
    )(command)


def _failed_by_lock(result: Any) -> bool:
    nodes = getattr(result.result, "results", None) or ()
    return not result.success and any(LOCKED in str(said) for said in (result.exception, *(n.message for n in nodes)))
