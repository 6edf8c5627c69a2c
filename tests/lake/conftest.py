"""Spark engines for the tests, and a small stream."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import spark
from support.oracle import Row
from support.streams import THRESHOLDS, write_chunk, write_importance
from tallymark.local import certify
from tallymark.local.replay import replay


@pytest.fixture(scope="session")
def sail() -> str:
    return spark.sail()


@pytest.fixture(scope="session")
def apache_spark(tmp_path_factory) -> Iterator[str]:
    with spark.apache_spark(tmp_path_factory.mktemp("spark")) as remote:
        yield remote


@pytest.fixture(params=["sail", pytest.param("apache_spark", marks=pytest.mark.spark)], autouse=True)
def engine(request, tmp_path, monkeypatch) -> str:
    """The engine that holds raw rows and state. Sail needs a location for its tables."""
    monkeypatch.setenv("SPARK_REMOTE", request.getfixturevalue(request.param))
    monkeypatch.setenv("TALLYMARK_ENGINE", "spark")
    monkeypatch.setenv("TALLYMARK_LAKE_LOCATION", f"file://{tmp_path}/lake")
    return request.param


@pytest.fixture
def data(tmp_path) -> Path:
    """Three chunks in which every pattern has detections under THRESHOLDS."""
    chance = random.Random(7)
    customers = [(f"C{i}", "FMM"[i % 3]) for i in range(15)]
    for number in range(1, 4):
        drawn = [chance.choice(customers) for _ in range(60)]
        rows = [Row(name, chance.choice(("M1", "M2")), gender, chance.choice(("20", "25"))) for name, gender in drawn]
        write_chunk(tmp_path / "data", f"chunk_{number}", rows)
    weights = [(name, merchant, str(chance.randrange(9))) for name, _ in customers for merchant in ("M1", "M2")]
    write_importance(tmp_path / "data", weights)
    return tmp_path / "data"


@pytest.fixture
def expected(data, tmp_path, monkeypatch) -> dict[str, list[str]]:
    """The results of the same stream on DuckDB, by part."""
    with monkeypatch.context() as patched:
        patched.setenv("TALLYMARK_ENGINE", "duckdb")
        replay(data, tmp_path / "duckdb", vars=THRESHOLDS)
        return certify.contents(data, certify.Way("duckdb", tmp_path / "duckdb", 0))
