"""The pipeline over a folder that is laid out like the bucket, without S3 and without a scheduler."""

import argparse
import json
import logging
from collections import Counter
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import yaml

from tallymark.settings import Settings
from tallymark.steps import build, export_detections, load_chunks, unfinished_work, waiting_chunks
from tallymark.store import FolderStore


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
        FileNotFoundError: when ``data`` holds no chunk, and nothing is left to be finished.
    """
    settings = Settings(warehouse=out / "warehouse.duckdb", vars=vars or {}, hold_remainder_seconds=0)
    store = FolderStore(data, target=out)
    objects = list(store.list(settings.transactions_prefix))
    if not objects and not unfinished_work(settings):
        raise FileNotFoundError(f"{data / settings.transactions_prefix} holds no chunk_* to replay")
    sizes = batch if isinstance(batch, Iterator) else repeat(max(len(objects), 1) if batch is None else batch)
    done = Counter(chunks=0, detections=0, files=0)
    while waiting_chunks(settings, objects) or unfinished_work(settings):
        loaded = load_chunks(settings, store, max_chunks=next(sizes), objects=objects)
        build(settings)
        exported = export_detections(settings, store)
        done.update(
            chunks=loaded["accepted"] + loaded["rejected"],
            detections=exported["detections"],
            files=exported["files"],
        )
    return dict(done)


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of chunks: 1 or more")
    return int(text)


def main() -> None:
    """Command line: see ``make replay`` in the README."""
    parser = argparse.ArgumentParser(prog="make replay", description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--batch", type=_at_least_one, help="chunks per micro-batch; all at once unless given")
    parser.add_argument("--vars", type=yaml.safe_load, default={}, help="dbt vars, as YAML")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    print(json.dumps(replay(**vars(arguments))))


if __name__ == "__main__":
    main()
