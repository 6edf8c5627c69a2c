"""The pipeline over a folder that is laid out like the bucket, without S3 and without a scheduler."""

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

LAYOUT = "input/transactions/chunk_* and input/customers/*, like the bucket"


class NoChunksError(UserError, FileNotFoundError):
    """There is nothing to replay."""


def replay(
    data: Path,
    out: Path,
    batch: int | Iterator[int] | None = None,
    vars: dict | None = None,
    show: Show = ignore,
) -> dict[str, int]:
    """Process what is in ``data`` and not yet in ``out``.

    Args:
        data: a folder with ``input/transactions/chunk_*`` and ``input/customers/*``.
        out: gets ``output/...`` and ``warehouse.duckdb``; one that is there already is continued.
        batch: chunks per micro-batch, of all or of each one, at least 1; all at once unless given.
        vars: dbt vars, such as other thresholds.

    Returns:
        What happened in this call: numbers of ``chunks``, ``detections`` and ``files``.

    Raises:
        SettingsError: when ``vars`` cannot be used.
        NoChunksError: when ``data`` holds no chunk, and nothing is left to be finished.
        UserError: when ``out`` cannot be written into.
    """
    at_once = {"hold_remainder_seconds": 0, "folder_settle_seconds": 0}
    settings = Settings(warehouse=out / "warehouse.duckdb", vars=vars or {}, **at_once)
    store = FolderStore(data, target=out, written=settings.output_prefix)
    index = LedgerIndex(settings.warehouse, settings.limits)
    objects = list(store.list(settings.transactions_prefix))
    if not find_chunks(objects, settings.transactions_prefix) and not index.has_unfinished_work():
        raise NoChunksError(
            f"{data / settings.transactions_prefix} holds no chunk_* to replay. DATA must be a folder with {LAYOUT}; "
            "one with transactions.csv(.gz) is for make demo and make certify"
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


def other_thresholds(settings: Settings) -> list[str]:
    """Thresholds that were others when chunks in the warehouse were decided on, each as ``name was 80 and is 60``."""
    in_force = {name: threshold.default for name, threshold in thresholds().items()} | settings.vars
    with connect(settings, read_only=True) as warehouse:
        found = warehouse.execute("select distinct * exclude (chunk_seq) from chunk_thresholds")
        names = [column[0] for column in found.description]
        rows = found.fetchall()
    return sorted(
        {
            f"{name} was {shown(value)} and is {shown(in_force[name])}"
            for row in rows
            for name, value in zip(names, row, strict=True)
            if value is not None and name in in_force and shown(value) != shown(in_force[name])
        }
    )


def chunks_taken(settings: Settings) -> int:
    """How many chunks are in the warehouse."""
    with connect(settings, read_only=True) as warehouse:
        return fetch_row(warehouse, "select count(distinct chunk_key) from raw.chunks")[0]
