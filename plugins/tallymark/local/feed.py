"""The feed: a stand-in for the producer that puts a file of transactions into the bucket, chunk by chunk."""

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
    """A file of transactions cannot be replayed; the message says why."""


@retry(
    retry=retry_if_exception_type(BucketError),
    wait=wait_exponential(max=LONGEST_PAUSE_SECONDS),
    before_sleep=before_sleep_log(log, logging.WARNING),
)
def feed_until_done(source: Path, settings: Settings, store: Store) -> None:
    """Put all chunks, however often S3 fails; pauses between tries grow to ``LONGEST_PAUSE_SECONDS``.

    Raises:
        OtherContentError: when the bucket holds another customer importance.
    """
    feed_transactions(source, settings, store)
    log.info("The source is used up: %s", source)


def feed_transactions(source: Path, settings: Settings, store: Store) -> int:
    """Put the next rows of a file of transactions as the next chunk, at a fixed rate, until it is used up.

    Chunks are called ``chunk_1``, ``chunk_2``, ... The first one follows the last one in the bucket.
    The customer importance beside the source, ``customer_importance.csv(.gz)``, is put first.

    Returns:
        Number of chunks put.

    Raises:
        BucketError: when S3 fails.
        OtherContentError: when the bucket holds another customer importance.
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
    """The file of transactions in a folder.

    Raises:
        SourceError: when there is none, or as ``check_source`` does.
    """
    for name in ("transactions.csv.gz", "transactions.csv"):
        if (source := folder / name).is_file():
            check_source(source)
            return source
    raise SourceError(
        f"There is neither transactions.csv.gz nor transactions.csv in {folder.absolute()}, which DATA must hold"
    )


def check_source(source: Path) -> None:
    """See whether a file of transactions can be replayed.

    Raises:
        SourceError: when it cannot be unpacked, lacks a column or holds no row.
    """
    try:
        with open_source(source) as file:
            first, *rows = islice((line for line in file if line.strip()), 2)
        read_layout(first, TRANSACTIONS)
    except ValueError as error:
        raise SourceError(f"{source}: {error if isinstance(error, RejectedError) else 'holds no line'}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{source} cannot be read: {error}") from error
    if not rows:
        raise SourceError(f"{source} holds no transaction below its header")


def open_source(source: Path) -> BufferedIOBase:
    """A file of transactions for reading bytes, unpacked if its name ends in ``.gz``."""
    return gzip.open(source, "rb") if source.suffix == ".gz" else source.open("rb")


def _numbers(settings: Settings, store: Store) -> Iterator[int]:
    prefix = f"{settings.transactions_prefix}chunk_"
    for stored in store.list(prefix):
        if match := re.match("[0-9]+", stored.key.removeprefix(prefix)):
            yield int(match.group())


def _chunks(source: Path, rows: int, skip: int) -> Iterator[bytes]:
    """The file in pieces of so many lines behind the first ``skip``, each below the header line."""
    with open_source(source) as file:
        header = file.readline()
        lines = islice(file, skip, None)
        while chunk := b"".join(islice(lines, rows)):
            yield header + chunk
