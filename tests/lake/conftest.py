"""What tests of the lake share."""

import pytest
from support import spark


@pytest.fixture(scope="session")
def sail_remote() -> str:
    return spark.sail()


@pytest.fixture
def on_sail(sail_remote, tmp_path, monkeypatch) -> None:
    """Raw rows and state are on Sail, whose tables need a location."""
    monkeypatch.setenv("SPARK_REMOTE", sail_remote)
    monkeypatch.setenv("TALLYMARK_ENGINE", "spark")
    monkeypatch.setenv("TALLYMARK_LAKE_LOCATION", (tmp_path / "lake").as_uri())
