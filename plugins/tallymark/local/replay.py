"""The pipeline over a folder that is laid out like the bucket, without S3 and without a scheduler."""

import json
import logging
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from itertools import repeat
from pathlib import Path

from tallymark.cli.command_line import ArgumentParser, must_be_a_folder, must_be_writable, whole_number
from tallymark.errors import UserError
from tallymark.intake.chunks import find_chunks
from tallymark.intake.listing import waiting_chunks
from tallymark.patterns import thresholds
from tallymark.pipeline.build import build_models
from tallymark.pipeline.export import export_detections
from tallymark.pipeline.load import load_chunks
from tallymark.settings import Settings, read_vars
from tallymark.store.folder import FolderStore
from tallymark.warehouse.connection import connect
from tallymark.warehouse.ledger_index import LedgerIndex

log = logging.getLogger(__name__)

LAYOUT = "input/transactions/chunk_* and input/customers/*, like the bucket"


class NoChunksError(UserError, FileNotFoundError):
    """There is nothing to replay."""


def replay(data: Path, out: Path, batch: int | Iterator[int] | None = None, vars: dict | None = None) -> dict[str, int]:
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
        must_be_a_folder(data, "DATA", LAYOUT)
        raise NoChunksError(
            f"{data / settings.transactions_prefix} holds no chunk_* to replay. DATA must be a folder with {LAYOUT}; "
            "one with transactions.csv(.gz) is for make demo and make certify"
        )
    must_be_writable(out, "OUT")
    sizes = batch if isinstance(batch, Iterator) else repeat(max(len(objects), 1) if batch is None else batch)
    done = Counter(chunks=0, detections=0, files=0)
    while waiting_chunks(settings, objects) or index.has_unfinished_work():
        loaded = load_chunks(settings, store, max_chunks=next(sizes), objects=objects)
        build_models(settings)
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
            f"{name} was {_shown(value)} and is {_shown(in_force[name])}"
            for row in rows
            for name, value in zip(names, row, strict=True)
            if value is not None and name in in_force and _shown(value) != _shown(in_force[name])
        }
    )


def _shown(threshold: object) -> str:
    """A number as short as it can be, so that equal ones are equal text."""
    text = str(threshold).strip()
    return f"{Decimal(text).normalize():f}" if text[:1].isdecimal() else text


def _chunks_taken(settings: Settings) -> int:
    with connect(settings, read_only=True) as warehouse:
        return warehouse.execute("select count(distinct chunk_key) from raw.chunks").fetchone()[0]


def main(arguments: list[str]) -> None:
    """Command line: see ``make replay`` in the README."""
    parser = ArgumentParser(prog="make replay", description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--batch", type=whole_number(1, "chunks"), help="chunks per micro-batch; all at once unless given"
    )
    parser.add_argument("--vars", default="{}", help="dbt vars, as YAML")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    vars = read_vars(given.vars)
    done = replay(given.data, given.out, given.batch, vars)
    settings = Settings(warehouse=given.out / "warehouse.duckdb", vars=vars)
    others = ", ".join(other_thresholds(settings))
    if not any(done.values()):
        taken = f"All {_chunks_taken(settings)} chunks are in {given.out} already"
        if others:
            raise UserError(
                f"{taken}, and were decided on with the thresholds of then: {others}. What was decided stays. "
                "To see what other thresholds find, give another OUT"
            )
        log.info("%s: there was nothing new.", taken)
    elif others:
        log.warning("Chunks that were in %s before keep what was decided on them: %s", given.out, others)
    print(json.dumps(done))
