"""DuckDB locks the warehouse while a process has it open. Other processes wait for the lock, up to a timeout."""

import logging
from pathlib import Path

import duckdb
from tenacity import retry, retry_if_exception, stop_after_delay, wait_fixed

log = logging.getLogger(__name__)

LOCKED = "lock on file"
LOCK_TIMEOUT_SECONDS = 30
PAUSE_SECONDS = 0.1


def is_locked(error: BaseException | None) -> bool:
    """Whether an error of DuckDB means that another process has the file open."""
    return isinstance(error, duckdb.IOException) and LOCKED in str(error)


@retry(
    retry=retry_if_exception(is_locked),
    stop=stop_after_delay(LOCK_TIMEOUT_SECONDS),
    wait=wait_fixed(PAUSE_SECONDS),
    before_sleep=lambda state: log.info("%s is open elsewhere; retrying in %s s", state.args[0], PAUSE_SECONDS),
    reraise=True,
)
def open_when_free(path: Path, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """Open a DuckDB file; if another process has it open, wait for its lock.

    Raises:
        duckdb.IOException: if the file is still locked after ``LOCK_TIMEOUT_SECONDS``.
    """
    return duckdb.connect(str(path), read_only=read_only)
