"""Compares DuckDB and Spark as the state grows, and writes the tables of docs/scaling.md.

The same kinds of micro-batches run on the same state, first on DuckDB, then on a Spark Connect server on this machine,
after all rows have been moved there.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from statistics import median

import click
from support.spark import apache_spark
from tallymark.lake.in_warehouse import InWarehouse
from tallymark.pipeline.build import build_models
from tallymark.settings import PROJECT_ROOT

from benchmarks import common
from benchmarks.history import land_random, make_past

MERCHANTS = 10
SIZES = (10**5, 10**6, 10**7)
TURNS = 3
RESULT = common.BENCH / "scaling.json"
PAGE = PROJECT_ROOT / "docs" / "scaling.md"
COLUMNS = {
    "duckdb_chunk": "DuckDB: one chunk",
    "duckdb_backlog": "60 chunks",
    "spark_chunk": "Spark: one chunk",
    "spark_backlog": "60 chunks",
    "spark_moved": "move and full refresh",
}
WRITTEN = {
    "duckdb_file": "DuckDB file",
    "spark_tables": "Spark tables",
    "spark_written_state": "written per chunk to state and raw rows",
    "spark_written_build": "written per chunk to the build's schema",
    "spark_statements": "statements per build",
    "spark_least": "statement that writes one row",
}
BEGIN, END = "<!-- measured: make bench-spark -->", "<!-- end -->"


@click.command()
@click.option(
    "--sizes", default=",".join(map(str, SIZES)), help="Comma-separated numbers of (merchant, customer) pairs."
)
def main(sizes: str) -> None:
    """Measure, and write the tables to docs/scaling.md."""
    figures = {}
    with apache_spark(common.fresh("spark"), memory="6g") as remote:
        for size in map(int, sizes.split(",")):
            root = common.fresh("scaling")
            customers = size // MERCHANTS
            common.in_child(make_past, root, max(size * 3 // 2, 600_000), customers, MERCHANTS)
            found = common.in_child(measure_duckdb, root, customers) | common.in_child(
                measure_spark, root, customers, remote
            )
            click.echo(f"{size}: {found}")
            figures[size] = found
            RESULT.write_text(json.dumps(figures, indent=1))
    write_page(figures)


def measure_duckdb(root: Path, customers: int) -> dict[str, tuple[float, str]]:
    figures = _batches(root, customers, count(10**6))
    figures["file"] = (common.settings_of(root).warehouse.stat().st_size / 1e6, "MB")
    return {f"duckdb_{name}": figure for name, figure in figures.items()}


def measure_spark(root: Path, customers: int, remote: str) -> dict[str, tuple[float, str]]:
    """Move the rows of a warehouse to Spark, build state there, and run the same kinds of batches."""
    settings = common.settings_of(root)
    InWarehouse(settings).drop_models()
    tables = root / "lake"
    os.environ |= {
        "TALLYMARK_ENGINE": "spark",
        "SPARK_REMOTE": remote,
        "TALLYMARK_LAKE_LOCATION": tables.as_uri(),
    }
    moved = common.timed(build_models, common.settings_of(root), full_refresh=True)
    common.micro_batch(root, [])
    numbers = count(2 * 10**6)
    with _statements() as statements:
        before = _files(tables)
        common.micro_batch(root, [land_random(root, next(numbers), customers, MERCHANTS)])
        written = {path: size for path, size in _files(tables).items() if path not in before}
        number = len(statements)
    of_build = sum(size for path, size in written.items() if "_build_" in path)
    figures = _batches(root, customers, numbers) | {
        "moved": (moved, "s"),
        "tables": (sum(_files(tables).values()) / 1e6, "MB"),
        "written_state": ((sum(written.values()) - of_build) / 1e6, "MB"),
        "written_build": (of_build / 1e6, "MB"),
        "statements": (number, "statements"),
        "least": (_least(), "s"),
    }
    return {f"spark_{name}": figure for name, figure in figures.items()}


def _batches(root: Path, customers: int, numbers: Iterator[int]) -> dict[str, tuple[float, str]]:
    def batch(chunks: int = 1) -> float:
        objects = [land_random(root, next(numbers), customers, MERCHANTS) for _ in range(chunks)]
        return common.micro_batch(root, objects)["seconds"]

    batch()  # makes the detections of the history
    return {"chunk": (median(batch() for _ in range(TURNS)), "s"), "backlog": (batch(60), "s")}


@contextmanager
def _statements() -> Iterator[list[str]]:
    """Collect the statements that dbt sends to Spark."""
    from dbt.adapters.spark.session import Cursor

    sent: list[str] = []
    execute = Cursor.execute

    def noted(self: Cursor, sql: str, *parameters: object) -> None:
        sent.append(sql)
        execute(self, sql, *parameters)

    Cursor.execute = noted
    try:
        yield sent
    finally:
        Cursor.execute = execute


def _least() -> float:
    """Return the seconds of a statement that writes a single row."""
    from pyspark.sql import SparkSession

    spark = SparkSession.builder.getOrCreate()
    spark.sql("create schema if not exists least")

    def write() -> None:
        spark.sql("create or replace table least.least using delta as select 1 as one").collect()

    write()
    return median(common.timed(write) for _ in range(5))


def _files(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def write_page(figures: dict[int, dict[str, tuple[float, str]]]) -> None:
    """Write the figures between the marks of the page."""
    tables = []
    for columns in (COLUMNS, WRITTEN):
        rows = [[f"{size:,}", *(common.shown(found, name) for name in columns)] for size, found in figures.items()]
        tables.append(common.markdown(["pairs", *columns.values()], rows))
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text("\n\n".join([f"{before}{BEGIN}", *tables, f"{END}{after}"]))


if __name__ == "__main__":
    main()
