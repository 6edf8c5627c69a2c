"""Spark engines for the tests, and a small stream."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import spark
from support.streams import THRESHOLDS, small_stream, write_stream
from tallymark.local import certify
from tallymark.local.replay import replay


@pytest.fixture(scope="session")
def sail(moto) -> str:
    """Sail with access to the S3 server."""
    return spark.sail(
        {
            "AWS_ENDPOINT": moto.url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false",
            "AWS_ACCESS_KEY_ID": moto.key,
            "AWS_SECRET_ACCESS_KEY": moto.secret,
            "AWS_REGION": "us-east-1",
        }
    )


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
    write_stream(tmp_path / "data", *small_stream(chunks=3, rows=60))
    return tmp_path / "data"


@pytest.fixture
def expected(data, tmp_path, monkeypatch) -> dict[str, list[str]]:
    """The results of the same stream on DuckDB, by part."""
    with monkeypatch.context() as patched:
        patched.setenv("TALLYMARK_ENGINE", "duckdb")
        replay(data, tmp_path / "duckdb", vars=THRESHOLDS)
        return certify.contents(data, certify.Way("duckdb", tmp_path / "duckdb", 0))
