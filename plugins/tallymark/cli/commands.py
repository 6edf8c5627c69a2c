"""The subcommands: each reads its arguments, calls one function and prints what it returns."""

import json
import logging
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from tallymark.cli.options import Count, Folder, Vars, argument, command, option, tallymark
from tallymark.errors import UserError
from tallymark.progress import Show, progress

__all__ = ["tallymark"]

# The API server has no heartbeat; what it says of its database stands for it.
PARTS = ("scheduler", "dag_processor", "triggerer", "metadatabase")
LIKE_THE_BUCKET = "input/transactions/chunk_* and input/customers/*, like the bucket"
A_SOURCE = "transactions.csv(.gz)"
A_REPLAY = "what make replay wrote"

source = option("data", type=Folder(A_SOURCE), help=f"Folder with {A_SOURCE} and customer_importance.csv(.gz).")
vars = option("vars", type=Vars(), default={}, show_default=False, help="dbt vars, such as thresholds, as YAML.")
bucket_folder = option("data", type=Folder(LIKE_THE_BUCKET), help="Folder to use instead of the bucket.")
replay_folder = option("out", type=Folder(A_REPLAY), help="Folder that make replay wrote.")


@contextmanager
def _progress(level: int = logging.INFO) -> Iterator[Show]:
    """Show progress, and log below it: on a terminal, where there is a bar, warnings alone."""
    with progress() as show:
        if sys.stderr.isatty():
            level = max(level, logging.WARNING)
        logging.basicConfig(level=level, format="%(message)s")
        yield show


@command("tallymark demo --data ~/banksim")
@source
def demo(data: Path | None) -> bool:
    """Run the feed and the pipeline to the end, and print a summary.

    Takes generated data unless there is a folder of transactions.
    """
    from tallymark.local.demo import demo

    with progress() as show:
        return not demo(data, show)


@command("tallymark up")
@source
def up(data: Path | None) -> None:
    """Start an S3 server, Airflow and the feed, and let them run."""
    from tallymark.local.demo import up

    up(data)


@command("tallymark down")
def down() -> None:
    """Stop what `tallymark up` started."""
    from tallymark.local.demo import down

    down()


@command("tallymark doctor")
def doctor() -> bool:
    """Check settings, connection, bucket and the warehouse's folder.

    Puts one small object, doctor.txt, below the output prefix.
    """
    from tallymark.doctor import Verdict
    from tallymark.doctor.diagnose import diagnose

    counts: Counter[Verdict] = Counter()
    for finding in diagnose():
        counts[finding.verdict] += 1
        print(finding, flush=True)
    print(
        f"{counts[Verdict.WORKS]} work, {counts[Verdict.FALLS_BACK]} fall back, {counts[Verdict.FAILS]} fail, "
        f"{counts[Verdict.NOT_CHECKED]} not checked"
    )
    return counts[Verdict.FAILS] > 0


@command("tallymark replay chunks found --batch 7 --vars '{child_min_transactions: 60}'")
@argument("data", type=Folder(LIKE_THE_BUCKET))
@argument("out", type=click.Path(path_type=Path))
@option("batch", type=Count(min=1), help="Chunks per micro-batch; all at once unless given.")
@vars
def replay(data: Path, out: Path, batch: int | None, vars: dict) -> None:
    """Run the pipeline over the folder DATA without S3 and Airflow.

    OUT gets the output and the warehouse. A replay that was interrupted continues.
    """
    from tallymark.local.replay import chunks_taken, other_thresholds, replay
    from tallymark.settings import Settings

    with _progress() as show:
        done = replay(data, out, batch, vars, show)
    settings = Settings(warehouse=out / "warehouse.duckdb", vars=vars)
    others = ", ".join(other_thresholds(settings))
    if not any(done.values()):
        taken = f"All {chunks_taken(settings)} chunks are in {out} already"
        if others:
            raise UserError(
                f"{taken}, and were decided on with the thresholds of then: {others}. What was decided stays. "
                "To see what other thresholds find, give another OUT"
            )
        print(f"{taken}: there was nothing new.", file=sys.stderr)
    elif others:
        print(f"Chunks that were in {out} before keep what was decided on them: {others}", file=sys.stderr)
    print(json.dumps(done))


@command("tallymark certify ~/banksim --shuffle 3")
@argument("data", type=Folder(f"input/transactions/chunk_*, or {A_SOURCE}"), required=False)
@option("out", type=click.Path(path_type=Path), help="Folder for the replays, which is emptied first.")
@option("shuffle", type=int, metavar="SEED", help="Reorder the rows before they are cut into chunks.")
@option("kills", type=Count(min=0), default=20, show_default=True, help="Most kills of the last replay.")
@option("seed", type=int, default=1, show_default=True, help="Seed of the random batches and kills.")
@vars
def certify(data: Path | None, out: Path | None, shuffle: int | None, kills: int, seed: int, vars: dict) -> bool:
    """Prove that batching and kills do not change the result.

    Takes the chunks of DATA, or generated ones, in five ways, and compares one digest of all that comes out.
    """
    from tallymark.local.certify import certify
    from tallymark.settings import PROJECT_ROOT

    with _progress(logging.CRITICAL) as show:
        is_equal = certify(data, out or PROJECT_ROOT / ".local" / "certify", shuffle, vars, kills, seed, show)
    print(json.dumps({"equal": is_equal}))
    return not is_equal


@command("tallymark verify --data chunks --out found")
@bucket_folder
@replay_folder
def verify(data: Path | None, out: Path | None) -> None:
    """Prove from the bucket alone that no detection file is lost."""
    from tallymark.recovery.verify import verify

    settings, store = _exported(data, out)
    print(json.dumps(verify(store, settings.output_prefix)))


@command("tallymark rebuild --data chunks --out found")
@bucket_folder
@replay_folder
@option("without-missing", is_flag=True, help="Continue without chunks that are missing or were changed.")
def rebuild(data: Path | None, out: Path | None, without_missing: bool) -> None:
    """Make a lost warehouse again from the bucket."""
    from tallymark.machine import must_be_writable
    from tallymark.recovery.rebuild import rebuild

    with _progress() as show:
        settings, store = _exported(data, out)
        must_be_writable(settings.warehouse.absolute().parent, "The folder of the warehouse")
        counts = rebuild(settings, store, without_missing, show)
    print(json.dumps(counts))


@command("TALLYMARK_ENGINE=spark tallymark migrate-engine duckdb")
@click.argument("engine", type=click.Choice(("duckdb", "spark", "databricks")))
@bucket_folder
@replay_folder
@vars
def migrate_engine(engine: str, data: Path | None, out: Path | None, vars: dict) -> None:
    """Move raw rows and state to another ENGINE, and audit them there.

    TALLYMARK_ENGINE is the engine that they are on until then. Set it to the new one afterwards.
    """
    from tallymark.recovery.migrate_engine import migrate_engine

    with _progress() as show:
        settings, store = _exported(data, out, vars)
        counts = migrate_engine(settings, store, engine, show)
    print(json.dumps(counts))
    print(f"Moved. Set TALLYMARK_ENGINE={engine} now.", file=sys.stderr)


@command("tallymark build --full-refresh")
@replay_folder
@vars
@click.option("--full-refresh", is_flag=True, help="Make state anew from all raw rows.")
def build(out: Path | None, vars: dict, full_refresh: bool) -> None:
    """Bring models up to the last chunk and run the sanity tests.

    What was exported stays as it is. The next export writes what is new.
    """
    from tallymark.pipeline.build import build_models

    with _progress():
        settings = _settings(out, vars)
        if settings.lake_staging:
            from tallymark.on_airflow.bucket import open_bucket

            done = build_models(settings, full_refresh, open_bucket(settings))
        else:
            done = build_models(settings, full_refresh)
    print(json.dumps(done))


@command("tallymark dbt show --select child --limit 5", context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def dbt(arguments: tuple[str, ...]) -> bool:
    """Run a dbt command with the warehouse and the engine of the settings.

    On Spark it reads what the last build left there.
    """
    from tallymark.lake import open_lake

    return not open_lake(_settings(None, {})).by_hand(arguments).success


@command("tallymark backtest --vars '{child_min_transactions: 60}' --from chunk_7")
@vars
@click.option("--from", "first", default="", metavar="CHUNK", help="First chunk that the thresholds decide on.")
@click.option("--to", "last", default="", metavar="CHUNK", help="Last chunk that is looked at.")
@bucket_folder
@option("out", type=click.Path(path_type=Path), help="With DATA: folder for a replay of it, and for the answer.")
def backtest(vars: dict, first: str, last: str, data: Path | None, out: Path | None) -> None:
    """Compare what other thresholds would have detected with what was detected.

    Thresholds that are not in VARS stay what they were for each chunk. Nothing is exported or changed.
    """
    from tallymark.backtest.priority import lowest_priority

    if data and not out:
        raise UserError("OUT is missing. With DATA, give a folder for a replay of it and for the answer, too")
    with lowest_priority() as reader, _progress(logging.WARNING) as progress:
        from tallymark.backtest.plan import plan
        from tallymark.backtest.report import folder, show
        from tallymark.backtest.run import backtest

        if data and out:
            from tallymark.local.replay import replay

            replay(data, out, vars=_settings(None, {}).vars, show=progress)
        settings, store = _exported(data, out)
        tried = plan(settings, vars, first, last)
        print(f"{tried}.", file=sys.stderr)
        summary = backtest(settings, store, tried, progress, reader)
    show(summary, f"{out or f's3://{settings.bucket}'}/{folder(settings.output_prefix, summary['name'])}")


def _settings(out: Path | None, vars: dict) -> Any:
    from tallymark.settings import Settings

    return Settings(**{"warehouse": out / "warehouse.duckdb"} if out else {}, **{"vars": vars} if vars else {})


def _exported(data: Path | None, out: Path | None, vars: dict | None = None) -> tuple:
    """Settings, and the bucket or the folders, which must hold an export."""
    from tallymark.outbox import manifest
    from tallymark.store import Store

    settings = _settings(out, vars or {})
    if out and not data:
        raise UserError("OUT is a folder that make replay wrote; give DATA, which it read, too")
    if data:
        from tallymark.store.folder import FolderStore

        store: Store = FolderStore(data, target=out, written=settings.output_prefix)
    else:
        from tallymark.on_airflow.bucket import open_bucket

        store = open_bucket(settings)
    if not any(store.list(manifest.folder(settings.output_prefix))):
        where = out or data or f"The bucket {settings.bucket}"
        raise UserError(
            f"{where} holds no {manifest.folder(settings.output_prefix)}*, so nothing was ever exported there. "
            "If something was, check DATA and OUT, or TALLYMARK_BUCKET and TALLYMARK_OUTPUT_PREFIX"
        )
    return settings, store


@command("TALLYMARK_FEED_SOURCE=transactions.csv.gz tallymark feed")
def feed() -> None:
    """Put TALLYMARK_FEED_SOURCE into the bucket, chunk by chunk.

    Ends when the source is used up. Connects to S3 as boto3 does, with AWS_* variables.
    """
    import boto3

    from tallymark.local.feed import check_source, feed_until_done
    from tallymark.settings import Settings
    from tallymark.store.s3 import S3_CONFIG, S3Store

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    settings = Settings()
    if settings.feed_source is None or settings.feed_source == Path():
        raise UserError("TALLYMARK_FEED_SOURCE is not set. Set it to a file transactions.csv or transactions.csv.gz.")
    check_source(settings.feed_source)
    feed_until_done(settings.feed_source, settings, S3Store(boto3.client("s3", config=S3_CONFIG), settings.bucket))


@command("tallymark generate made-up --rows 1000")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--rows", type=Count(min=1), default=200_000, show_default=True, help="Number of transactions.")
@click.option("--seed", type=int, default=1, show_default=True, help="Seed; the same one gives the same data.")
def generate(folder: Path, rows: int, seed: int) -> None:
    """Write generated transactions and customer importance into FOLDER."""
    from tallymark.local.generate import generate

    generate(folder, rows, seed)


@command("tallymark set-up")
def set_up() -> None:
    """Create or migrate Airflow's database, and its pool with one writer.

    Needed once wherever Airflow is installed; safe to run again.
    """
    from tallymark.on_airflow.set_up import set_up

    set_up()


@command("tallymark health scheduler")
@click.argument("part", type=click.Choice(PARTS))
def health(part: str) -> int:
    """Ask the API server whether a PART of Airflow is healthy.

    Exit codes: 0 healthy, 1 unhealthy by another part's fault, 2 unhealthy.
    """
    from tallymark.on_airflow.health import check

    return check(part)


@command("tallymark secrets")
def secrets() -> None:
    """Write .env for docker-compose.yaml, with fresh secrets."""
    from tallymark.cli.env_file import write

    write()


@command("tallymark settings >docs/settings.md")
def settings() -> None:
    """Print all settings and thresholds, as docs/settings.md."""
    from tallymark.cli.settings_page import settings_page

    print(settings_page(), end="")
