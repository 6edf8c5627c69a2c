"""The pipeline with raw rows and state on Spark.

``make test`` uses Sail, an engine without Java that speaks Spark's protocol and much of its SQL. It has no deletion
vectors and no collations, reports no conflicts between concurrent writers, and keeps its catalog in memory.
``make test-spark`` uses Apache Spark with Delta.
"""

import itertools
import os
import random
import shutil
import signal
from decimal import Decimal
from pathlib import Path

import pytest
from support import crash, spark
from support.killed_stream import Stream
from support.oracle import Row
from support.streams import THRESHOLDS, write_chunk
from tallymark.audit import audit
from tallymark.lake.on_spark import LakeError, OnSpark
from tallymark.local import certify
from tallymark.local.replay import replay
from tallymark.pipeline.build import BuildError, build_models
from tallymark.settings import Settings
from tallymark.store.folder import FolderStore
from tallymark.warehouse.connection import connect


def contents(data: Path, out: Path) -> dict[str, list[str]]:
    return certify.contents(data, certify.Way("spark", out, 0))


@pytest.mark.parametrize("batch", [1, None])
def test_stream_equals_duckdb(data, tmp_path, expected, batch):
    out = tmp_path / "spark"
    replay(data, out, batch=batch, vars=THRESHOLDS)
    assert {line.split(", ")[1] for line in expected["detections"]} == {"'PatId1'", "'PatId2'", "'PatId3'"}
    assert contents(data, out) == expected
    settings = Settings(warehouse=out / "warehouse.duckdb", vars=THRESHOLDS)
    assert audit(settings, FolderStore(data, target=out))["tests"] > 10


def test_exact_arithmetic(tmp_path, data):
    """Macros for integer arithmetic give the same results as Python."""
    chance = random.Random(3)
    sums = [
        chance.choice((-1, 1)) * chance.randrange(10 ** chance.choice((1, 5, 17, 18, 19, 22, 27))) for _ in range(300)
    ]
    counts = [chance.choice((1, 2, 3, 7, 97, 123457, 999999999)) for _ in sums]
    replay(data, tmp_path / "spark", vars=THRESHOLDS)
    settings = Settings(warehouse=tmp_path / "spark/warehouse.duckdb")
    values = ", ".join(
        f"({place}, cast('{Decimal(units).scaleb(-18):f}' as decimal(38, 18)), {count})"
        for place, (units, count) in enumerate(zip(sums, counts, strict=True))
    )
    query = f"""
        select
            place,
            {{{{ exact_units('total') }}}} as units,
            {{{{ exact_average('total', 'count') }}}} as average,
            {{{{ integer_division('(' ~ exact_units('total') ~ ' % count) * 1000000000000000000', 'count') }}}} as rest
        from (values {values}) as numbers (place, total, count)
        order by place
    """
    with connect(settings, read_only=True) as warehouse:
        lake = OnSpark(settings, None)
        lake.use_last_build(warehouse)
    rows = lake.run(["show", "--inline", query, "--limit", "-1"]).result[0].agate_table.rows
    for row, units, count in zip(rows, sums, counts, strict=True):
        sign = -1 if units < 0 else 1
        quotient, remainder = divmod(abs(units), count)
        assert int(row["units"]) == units
        assert Decimal(row["average"]).scaleb(18) == sign * quotient
        assert int(row["rest"]) == sign * (remainder * 10**18 // count)


def killed(data: Path, out: Path, number: int, processes) -> str | None:
    """Replay, and kill the process before a statement. Returns the statement, or None if the replay had fewer."""
    late = out.with_name("late.sql")
    process = processes.Process(target=spark.run, args=(data, out, THRESHOLDS, number, late, dict(os.environ)))
    process.start()
    process.join(600)
    assert process.exitcode in (0, -signal.SIGKILL)
    return late.read_text() if process.exitcode else None


STATEMENTS = [
    pytest.param("sail", range(40, 41), id="one"),
    pytest.param("sail", range(80), id="all", marks=pytest.mark.system),
    pytest.param("apache_spark", range(2, 70, 9), id="Apache Spark", marks=pytest.mark.spark),
]


@pytest.mark.parametrize(("engine", "numbers"), STATEMENTS, indirect=["engine"])
def test_late_statement_of_killed_build_is_harmless(data, tmp_path, expected, processes, numbers):
    """A build is killed before a statement on Spark. The next build completes, and then the statement still runs.

    Each chunk lands after the late statement of the previous one.
    """
    out, source = tmp_path / "spark", data / "input/transactions"
    waiting = [path.rename(tmp_path / path.name) for path in sorted(source.iterdir())]
    late = []
    for number, path in zip(numbers, itertools.chain(waiting, itertools.repeat(None)), strict=False):
        if path:
            path.rename(source / path.name)
        if statement := killed(data, out, number, processes):
            late.append(statement)
        replay(data, out, vars=THRESHOLDS)
        for statement in late:
            spark.run_late(statement)
    assert late
    for path in waiting:
        if path.exists():
            path.rename(source / path.name)
    replay(data, out, vars=THRESHOLDS)
    assert contents(data, out) == expected


@pytest.mark.system
def test_killed_between_warehouse_and_spark(tmp_path, processes):
    stream = Stream(tmp_path, processes)
    for point in crash.ON_SPARK:
        stream.land()
        stream.land()
        assert stream.end(stream.start(point, 2 if "committed" in point else 1)), f"{point} was not reached"
    stream.must_be_as_if_undisturbed()


@pytest.mark.system
def test_duckdb_engine_rejects_warehouse_with_rows_on_spark(data, tmp_path, monkeypatch):
    out = tmp_path / "spark"
    replay(data, out, vars=THRESHOLDS)
    write_chunk(data, "chunk_4", [Row("C0", "M9", "F", "1")] * 5)
    with monkeypatch.context() as patched, pytest.raises(BuildError, match="are on Spark, in the schema tallymark_"):
        patched.setenv("TALLYMARK_ENGINE", "duckdb")
        replay(data, out, vars=THRESHOLDS)
    assert replay(data, out, vars=THRESHOLDS)["detections"] == 1


@pytest.mark.system
def test_spark_engine_rejects_warehouse_with_own_rows(data, tmp_path, expected):
    write_chunk(data, "chunk_4", [Row("C0", "M9", "F", "1")] * 5)
    with pytest.raises(LakeError, match="holds its raw rows and state itself"):
        replay(data, tmp_path / "duckdb", vars=THRESHOLDS)


@pytest.mark.system
def test_copy_of_warehouse_is_rejected(data, tmp_path):
    """The copy would add its rows to the state a second time."""
    out, copy = tmp_path / "spark", tmp_path / "copy"
    replay(data, out, vars=THRESHOLDS)
    shutil.copytree(out, copy)
    write_chunk(data, "chunk_4", [Row("C0", "M9", "F", "1")] * 5)
    replay(data, out, vars=THRESHOLDS)
    with pytest.raises(LakeError, match=r"the last build in the schema tallymark_\w+: build_\w+\. Either a copy"):
        replay(data, copy, vars=THRESHOLDS)
    settings = Settings(warehouse=copy / "warehouse.duckdb", vars=THRESHOLDS)
    build_models(settings, full_refresh=True)
    with pytest.raises(LakeError, match="does not know the last build"):
        build_models(Settings(warehouse=out / "warehouse.duckdb", vars=THRESHOLDS))
