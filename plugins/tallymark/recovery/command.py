"""What a bucket that lost its warehouse needs: is every file there, and the warehouse made again."""

import json
import logging
from pathlib import Path

from tallymark.cli.command_line import ArgumentParser, must_be_a_folder, must_be_writable
from tallymark.errors import UserError
from tallymark.outbox import manifest
from tallymark.recovery.rebuild import rebuild
from tallymark.recovery.verify import verify
from tallymark.settings import Settings
from tallymark.store import Store
from tallymark.store.folder import FolderStore


def _open(settings: Settings, data: Path | None, out: Path | None) -> Store:
    if data:
        return FolderStore(data, target=out, written=settings.output_prefix)
    # Airflow makes its folders when it is imported, and is needed for its connection alone.
    from tallymark.on_airflow.bucket import open_bucket

    return open_bucket(settings)


def main(arguments: list[str]) -> None:
    """Command line: see ``make rebuild`` and ``make verify`` in the README."""
    parser = ArgumentParser(prog="make", description=__doc__)
    parser.add_argument("command", choices=("rebuild", "verify"))
    parser.add_argument("--data", type=Path, help="a folder laid out like the bucket, instead of the bucket")
    parser.add_argument("--out", type=Path, help="the folder that make replay wrote into")
    parser.add_argument("--without-missing", action="store_true")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings = Settings(**{"warehouse": given.out / "warehouse.duckdb"} if given.out else {})
    if given.out and not given.data:
        raise UserError("OUT is a folder that make replay wrote; give DATA, which it read, too")
    if given.data:
        must_be_a_folder(given.data, "DATA", f"{settings.transactions_prefix}chunk_*")
    if given.out:
        must_be_a_folder(given.out, "OUT", "what make replay wrote")
    store = _open(settings, given.data, given.out)
    if not any(store.list(manifest.folder(settings.output_prefix))):
        where = given.out or given.data or f"The bucket {settings.bucket}"
        raise UserError(
            f"{where} holds no {manifest.folder(settings.output_prefix)}*, so nothing was ever exported there. "
            "If something was, check DATA and OUT, or TALLYMARK_BUCKET and TALLYMARK_OUTPUT_PREFIX"
        )
    if given.command == "verify":
        result = verify(store, settings.output_prefix)
    else:
        must_be_writable(settings.warehouse.absolute().parent, "The folder of the warehouse")
        result = rebuild(settings, store, given.without_missing)
    print(json.dumps(result))
