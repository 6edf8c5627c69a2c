"""The subcommands. Each parses its arguments, calls one function and prints the result."""

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

# The API server has no heartbeat. The status of its metadatabase is used instead.
PARTS = ("scheduler", "dag_processor", "triggerer", "metadatabase")
LIKE_THE_BUCKET = "input/transactions/chunk_* and input/customers/*, laid out like the bucket"
A_SOURCE = "transactions.csv(.gz)"
A_REPLAY = "the output of make replay"

source = option("data", type=Folder(A_SOURCE), help=f"Folder with {A_SOURCE} and customer_importance.csv(.gz).")
vars = option("vars", type=Vars(), default={}, show_default=False, help="Thresholds to change (dbt vars), as YAML.")
bucket_folder = option("data", type=Folder(LIKE_THE_BUCKET), help="Folder to use instead of the bucket.")
replay_folder = option("out", type=Folder(A_REPLAY), help="Output folder of make replay.")


@contextmanager
def _progress(level: int = logging.INFO) -> Iterator[Show]:
    """Show progress, and configure logging. On a terminal, which shows a progress bar, only warnings are logged."""
    with progress() as show:
        if sys.stderr.isatty():
            level = max(level, logging.WARNING)
        logging.basicConfig(level=level, format="%(message)s")
        yield show


@command("tallymark demo --data ~/banksim")
@source
def demo(data: Path | None) -> bool:
    """Run the feed and the pipeline to the end, and print a summary.

    Uses generated data unless you give a folder of transactions.
    """
    from tallymark.local.demo import demo

    with progress() as show:
        return not demo(data, show)


@command("tallymark up")
@source
def up(data: Path | None) -> None:
    """Start an S3 server, Airflow and the feed in the background."""
    from tallymark.local.demo import up

    up(data)


@command("tallymark down")
def down() -> None:
    """Stop what `tallymark up` started."""
    from tallymark.local.demo import down

    down()


@command("tallymark doctor")
def doctor() -> bool:
    """Check the settings, the connection, the bucket and the warehouse's folder.

    Writes one small object, doctor.txt, below the output prefix.
    """
    from tallymark.doctor import Verdict
    from tallymark.doctor.diagnose import diagnose

    counts: Counter[Verdict] = Counter()
    for finding in diagnose():
        counts[finding.verdict] += 1
        print(finding, flush=True)
    print(
        f"{counts[Verdict.WORKS]} working, {counts[Verdict.FALLS_BACK]} falling back, {counts[Verdict.FAILS]} failing, "
        f"{counts[Verdict.NOT_CHECKED]} not checked"
    )
    return counts[Verdict.FAILS] > 0


@command("tallymark replay chunks results --batch 7 --vars '{child_min_transactions: 60}'")
@argument("data", type=Folder(LIKE_THE_BUCKET))
@argument("out", type=click.Path(path_type=Path))
@option("batch", type=Count(min=1), help="Chunks per micro-batch. Default: all chunks in one.")
@vars
def replay(data: Path, out: Path, batch: int | None, vars: dict) -> None:
    """Run the pipeline over the folder DATA, without S3 and Airflow.

    Writes the output and the warehouse to OUT. An interrupted replay continues where it stopped.
    """
    from tallymark.local.replay import changed_thresholds, chunks_taken, replay
    from tallymark.settings import Settings

    with _progress() as show:
        done = replay(data, out, batch, vars, show)
    settings = Settings(warehouse=out / "warehouse.duckdb", vars=vars)
    changes = ", ".join(changed_thresholds(settings))
    if not any(done.values()):
        count = chunks_taken(settings)
        chunks = "the only chunk" if count == 1 else f"all {count} chunks"
        if changes:
            raise UserError(
                f"Nothing to do: {out} already contains {chunks}, evaluated with other thresholds ({changes}). These "
                "results are final. To try the new thresholds, choose another OUT."
            )
        print(f"Nothing to do: {out} already contains {chunks}.", file=sys.stderr)
    elif changes:
        print(f"Chunks that {out} already contained keep their results. New thresholds: {changes}", file=sys.stderr)
    print(json.dumps(done))


@command("tallymark certify ~/banksim --shuffle 3")
@argument("data", type=Folder(f"input/transactions/chunk_*, or {A_SOURCE}"), required=False)
@option("out", type=click.Path(path_type=Path), help="Folder for the replays. It is emptied first.")
@option("shuffle", type=int, metavar="SEED", help="Shuffle the rows before they are cut into chunks.")
@option("kills", type=Count(min=0), default=20, show_default=True, help="Maximum number of kills in the last replay.")
@option("seed", type=int, default=1, show_default=True, help="Seed of the random batches and kills.")
@vars
def certify(data: Path | None, out: Path | None, shuffle: int | None, kills: int, seed: int, vars: dict) -> bool:
    """Prove that batching and kills do not change the result.

    Replays the chunks of DATA, or generated ones, in five ways and compares a digest of the results.
    """
    from tallymark.local.certify import certify
    from tallymark.settings import PROJECT_ROOT

    with _progress(logging.CRITICAL) as show:
        is_equal = certify(data, out or PROJECT_ROOT / ".local" / "certify", shuffle, vars, kills, seed, show)
    print(json.dumps({"equal": is_equal}))
    return not is_equal


@command("tallymark verify --data chunks --out results")
@bucket_folder
@replay_folder
def verify(data: Path | None, out: Path | None) -> None:
    """Prove from the bucket alone that no detection file is missing or changed."""
    from tallymark.recovery.verify import verify

    settings, store = _exported(data, out)
    print(json.dumps(verify(store, settings.output_prefix)))


@command("tallymark rebuild --data chunks --out results")
@bucket_folder
@replay_folder
@option("without-missing", is_flag=True, help="Continue without chunks that are missing or changed.")
def rebuild(data: Path | None, out: Path | None, without_missing: bool) -> None:
    """Rebuild a lost warehouse from the bucket."""
    from tallymark.machine import must_be_writable
    from tallymark.recovery.rebuild import rebuild

    with _progress() as show:
        settings, store = _exported(data, out)
        must_be_writable(settings.warehouse.absolute().parent, "The warehouse's folder")
        counts = rebuild(settings, store, without_missing, show)
    print(json.dumps(counts))


@command("TALLYMARK_ENGINE=spark tallymark migrate-engine duckdb")
@click.argument("engine", type=click.Choice(("duckdb", "spark", "databricks")))
@bucket_folder
@replay_folder
@vars
def migrate_engine(engine: str, data: Path | None, out: Path | None, vars: dict) -> None:
    """Move raw rows and state to another ENGINE, and audit them there.

    Run this while TALLYMARK_ENGINE is still the old engine. Set it to the new engine afterwards.
    """
    from tallymark.recovery.migrate_engine import migrate_engine

    with _progress() as show:
        settings, store = _exported(data, out, vars)
        counts = migrate_engine(settings, store, engine, show)
    print(json.dumps(counts))
    print(f"Done. Now set TALLYMARK_ENGINE={engine}.", file=sys.stderr)


@command("tallymark build --full-refresh")
@replay_folder
@vars
@click.option("--full-refresh", is_flag=True, help="Rebuild state from all raw rows.")
def build(out: Path | None, vars: dict, full_refresh: bool) -> None:
    """Build the models up to the last chunk and run the sanity tests.

    Exported detections do not change. The next export writes the new ones.
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
    """Run a dbt command with the configured warehouse and engine.

    On Spark, it reads the tables of the last build.
    """
    from tallymark.lake import open_lake

    return not open_lake(_settings(None, {})).by_hand(arguments).success


@command("tallymark backtest --vars '{child_min_transactions: 60}' --from chunk_7")
@vars
@click.option("--from", "first", default="", metavar="CHUNK", help="First chunk that the thresholds apply to.")
@click.option("--to", "last", default="", metavar="CHUNK", help="Last chunk to evaluate.")
@bucket_folder
@option("out", type=click.Path(path_type=Path), help="With DATA: folder for its replay and the result.")
def backtest(vars: dict, first: str, last: str, data: Path | None, out: Path | None) -> None:
    """Compare the detections of other thresholds with the actual detections.

    Thresholds that are not in VARS keep the values that each chunk was evaluated with. Nothing is exported or changed.
    """
    from tallymark.backtest.priority import lowest_priority

    if data and not out:
        raise UserError("OUT is missing. With DATA, also give a folder for its replay and the result.")
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
    """Return the settings and the store.

    Raises:
        UserError: when nothing was ever exported to the store.
    """
    from tallymark.outbox import manifest
    from tallymark.store import Store

    settings = _settings(out, vars or {})
    if out and not data:
        raise UserError("DATA is missing. With OUT, also give the folder that make replay read.")
    if data:
        from tallymark.store.folder import FolderStore

        store: Store = FolderStore(data, target=out, written=settings.output_prefix)
    else:
        from tallymark.on_airflow.bucket import open_bucket

        store = open_bucket(settings)
    if not any(store.list(manifest.folder(settings.output_prefix))):
        where = out or data or f"the bucket {settings.bucket}"
        raise UserError(
            f"Nothing was ever exported to {where}: it contains no {manifest.folder(settings.output_prefix)}*. "
            "Check DATA and OUT, or TALLYMARK_BUCKET and TALLYMARK_OUTPUT_PREFIX."
        )
    return settings, store


@command("TALLYMARK_FEED_SOURCE=transactions.csv.gz tallymark feed")
def feed() -> None:
    """Put TALLYMARK_FEED_SOURCE into the bucket, chunk by chunk.

    Ends after the last row. Connects to S3 with boto3's AWS_* variables.
    """
    import boto3

    from tallymark.local.feed import check_source, feed_until_done
    from tallymark.settings import Settings
    from tallymark.store.s3 import S3_CONFIG, S3Store

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    settings = Settings()
    if settings.feed_source is None or settings.feed_source == Path():
        raise UserError("TALLYMARK_FEED_SOURCE is not set. Set it to the path of a transactions.csv(.gz).")
    check_source(settings.feed_source)
    feed_until_done(settings.feed_source, settings, S3Store(boto3.client("s3", config=S3_CONFIG), settings.bucket))


@command("tallymark generate sample --rows 1000")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--rows", type=Count(min=1), default=200_000, show_default=True, help="Number of transactions.")
@click.option("--seed", type=int, default=1, show_default=True, help="Seed. The same seed gives the same data.")
def generate(folder: Path, rows: int, seed: int) -> None:
    """Write generated transactions and customer importance into FOLDER."""
    from tallymark.local.generate import generate

    generate(folder, rows, seed)


@command("tallymark set-up")
def set_up() -> None:
    """Create or migrate Airflow's database, and create the `warehouse` pool.

    Run this once per Airflow installation. It is safe to run again.
    """
    from tallymark.on_airflow.set_up import set_up

    set_up()


@command("tallymark health scheduler")
@click.argument("part", type=click.Choice(PARTS))
def health(part: str) -> int:
    """Ask the API server whether a PART of Airflow is healthy.

    Exit codes: 0 healthy, 1 unhealthy because of another part, 2 unhealthy.
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
    """Print docs/settings.md: all settings and thresholds."""
    from tallymark.cli.settings_page import settings_page

    print(settings_page(), end="")
