"""Run the pipeline over a folder that is laid out like the bucket, without S3 and without a scheduler."""

from collections import Counter
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

from tallymark.errors import UserError
from tallymark.intake.chunks import find_chunks
from tallymark.intake.listing import waiting_chunks
from tallymark.machine import must_be_writable
from tallymark.patterns import shown, thresholds
from tallymark.pipeline.build import build_models
from tallymark.pipeline.export import export_detections
from tallymark.pipeline.load import load_chunks
from tallymark.progress import Show, ignore
from tallymark.settings import Settings
from tallymark.store.folder import FolderStore
from tallymark.warehouse.connection import connect, fetch_row
from tallymark.warehouse.ledger_index import LedgerIndex

LAYOUT = "input/transactions/chunk_* and input/customers/*, laid out like the bucket"


class NoChunksError(UserError, FileNotFoundError):
    """The folder contains no chunk."""


def replay(
    data: Path,
    out: Path,
    batch: int | Iterator[int] | None = None,
    vars: dict | None = None,
    show: Show = ignore,
) -> dict[str, int]:
    """Process the chunks in ``data`` that are not in ``out`` yet.

    Args:
        data: a folder with ``input/transactions/chunk_*`` and ``input/customers/*``.
        out: for ``output/...`` and ``warehouse.duckdb``. An earlier replay in it is continued.
        batch: chunks per micro-batch, at least 1: one number for all micro-batches, or one for each. Default: all
            chunks in one micro-batch.
        vars: dbt vars (thresholds).

    Returns:
        The number of ``chunks``, ``detections`` and ``files`` that this call processed.

    Raises:
        SettingsError: when ``vars`` are invalid.
        NoChunksError: when ``data`` contains no chunk and ``out`` has no unfinished work.
        UserError: when ``out`` is not writable.
    """
    at_once = {"hold_remainder_seconds": 0, "folder_settle_seconds": 0}
    settings = Settings(warehouse=out / "warehouse.duckdb", vars=vars or {}, **at_once)
    store = FolderStore(data, target=out, written=settings.output_prefix)
    index = LedgerIndex(settings.warehouse, settings.limits)
    objects = list(store.list(settings.transactions_prefix))
    if not find_chunks(objects, settings.transactions_prefix) and not index.has_unfinished_work():
        raise NoChunksError(
            f"{data / settings.transactions_prefix} contains no chunk_*. Choose a DATA folder with {LAYOUT}. "
            "For a folder with transactions.csv(.gz), use make demo or make certify."
        )
    must_be_writable(out, "OUT")
    sizes = batch if isinstance(batch, Iterator) else repeat(max(len(objects), 1) if batch is None else batch)
    done, total = Counter(chunks=0, detections=0, files=0), len(waiting_chunks(settings, objects))
    while waiting_chunks(settings, objects) or index.has_unfinished_work():
        show(done["chunks"], total, f"{done['chunks']} of {total} chunks processed")
        loaded = load_chunks(settings, store, max_chunks=next(sizes), objects=objects)
        build_models(settings, store=store)
        exported = export_detections(settings, store)
        done.update(
            chunks=loaded["chunks_accepted"] + loaded["chunks_rejected"],
            detections=exported["detections"],
            files=exported["files"],
        )
    return dict(done)


def changed_thresholds(settings: Settings) -> list[str]:
    """Describe the thresholds that changed since chunks were processed, such as ``name changed from 80 to 60``."""
    current = {name: threshold.default for name, threshold in thresholds().items()} | settings.vars
    with connect(settings, read_only=True) as warehouse:
        found = warehouse.execute("select distinct * exclude (chunk_seq) from chunk_thresholds")
        names = [column[0] for column in found.description]
        rows = found.fetchall()
    return sorted(
        {
            f"{name} changed from {shown(value)} to {shown(current[name])}"
            for row in rows
            for name, value in zip(names, row, strict=True)
            if value is not None and name in current and shown(value) != shown(current[name])
        }
    )


def chunks_taken(settings: Settings) -> int:
    """Return the number of chunks in the warehouse."""
    with connect(settings, read_only=True) as warehouse:
        return fetch_row(warehouse, "select count(distinct chunk_key) from raw.chunks")[0]
