"""The feed: puts a file of transactions into the bucket, chunk by chunk. It stands in for a real producer."""

import gzip
import logging
import re
import time
import zlib
from collections.abc import Iterator
from io import BufferedIOBase
from itertools import islice
from pathlib import Path

from tenacity import before_sleep_log, retry, retry_if_exception_type, wait_exponential

from tallymark.errors import UserError
from tallymark.intake.csv_lines import read_layout
from tallymark.intake.errors import RejectedError
from tallymark.intake.rows import TRANSACTIONS
from tallymark.settings import Settings
from tallymark.store import BucketError, Store

log = logging.getLogger(__name__)

LONGEST_PAUSE_SECONDS = 30


class SourceError(UserError, ValueError):
    """A file of transactions cannot be replayed. The message has the reason."""


@retry(
    retry=retry_if_exception_type(BucketError),
    wait=wait_exponential(max=LONGEST_PAUSE_SECONDS),
    before_sleep=before_sleep_log(log, logging.WARNING),
)
def feed_until_done(source: Path, settings: Settings, store: Store) -> None:
    """Put all chunks. Retry without limit when S3 fails; pauses grow up to ``LONGEST_PAUSE_SECONDS``.

    Raises:
        OtherContentError: when the bucket contains a different customer importance.
    """
    feed_transactions(source, settings, store)
    log.info("All rows of %s are in the bucket.", source)


def feed_transactions(source: Path, settings: Settings, store: Store) -> int:
    """Cut a file of transactions into chunks and put them into the bucket at a fixed rate.

    Chunks are named ``chunk_1``, ``chunk_2``, ... The feed continues after the last chunk in the bucket. A
    ``customer_importance.csv(.gz)`` next to the source is put first.

    Returns:
        Number of chunks that were put.

    Raises:
        BucketError: when S3 fails.
        OtherContentError: when the bucket contains a different customer importance.
    """
    for importance in source.parent.glob("customer_importance.csv*"):
        store.put_new(f"{settings.customers_prefix}{importance.name}", importance.read_bytes())
    first = 1 + max(_numbers(settings, store), default=0)
    start = time.monotonic()
    done = 0
    for body in _chunks(source, settings.feed_chunk_rows, skip=(first - 1) * settings.feed_chunk_rows):
        time.sleep(max(0.0, start + done * settings.feed_interval_seconds - time.monotonic()))
        key = f"{settings.transactions_prefix}chunk_{first + done}"
        store.put_new(key, body)
        log.info("put %s", key)
        done += 1
    return done


def find_source(folder: Path) -> Path:
    """Return the file of transactions in a folder.

    Raises:
        SourceError: when there is none, or when ``check_source`` rejects it.
    """
    for name in ("transactions.csv.gz", "transactions.csv"):
        if (source := folder / name).is_file():
            check_source(source)
            return source
    raise SourceError(
        f"{folder.absolute()} contains neither transactions.csv.gz nor transactions.csv. Choose a DATA folder with one "
        "of them."
    )


def check_source(source: Path) -> None:
    """Check that a file of transactions can be replayed.

    Raises:
        SourceError: when the file cannot be decompressed, lacks a column or has no rows.
    """
    try:
        with open_source(source) as file:
            first, *rows = islice((line for line in file if line.strip()), 2)
        read_layout(first, TRANSACTIONS)
    except ValueError as error:
        raise SourceError(f"{source}: {error if isinstance(error, RejectedError) else 'the file is empty'}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{source} cannot be read: {error}") from error
    if not rows:
        raise SourceError(f"{source} has a header but no transactions")


def open_source(source: Path) -> BufferedIOBase:
    """Open a file of transactions for reading bytes; decompress it if its name ends in ``.gz``."""
    return gzip.open(source, "rb") if source.suffix == ".gz" else source.open("rb")


def _numbers(settings: Settings, store: Store) -> Iterator[int]:
    prefix = f"{settings.transactions_prefix}chunk_"
    for stored in store.list(prefix):
        if match := re.match("[0-9]+", stored.key.removeprefix(prefix)):
            yield int(match.group())


def _chunks(source: Path, rows: int, skip: int) -> Iterator[bytes]:
    """Yield the lines after the first ``skip`` in pieces of ``rows`` lines, each below the header line."""
    with open_source(source) as file:
        header = file.readline()
        lines = islice(file, skip, None)
        while chunk := b"".join(islice(lines, rows)):
            yield header + chunk
