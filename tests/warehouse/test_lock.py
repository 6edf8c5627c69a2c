"""The warehouse while another process has it open."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import tenacity
from support.loading import GOOD, put
from tallymark.pipeline.build import build_models
from tallymark.pipeline.load import load_chunks
from tallymark.settings import Settings
from tallymark.store.folder import FolderStore
from tallymark.warehouse import lock
from tallymark.warehouse.errors import WarehouseError

HOLD = "import duckdb, sys, time; held = duckdb.connect(sys.argv[1]); print('open', flush=True); time.sleep(600)"


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(warehouse=tmp_path / "warehouse.duckdb")


@pytest.fixture
def bucket(settings, tmp_path) -> FolderStore:
    """A bucket whose first chunk is already loaded."""
    bucket = FolderStore(tmp_path)
    put(bucket, "chunk_1", GOOD)
    load_chunks(settings, bucket)
    return bucket


@pytest.fixture
def holder(settings, bucket) -> Iterator[subprocess.Popen]:
    """Another process that has the warehouse open."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(settings.warehouse)], stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"open\n"
        yield process
    finally:
        process.kill()
        process.wait(600)
        process.stdout.close()


STEPS = {"load": load_chunks, "build": lambda settings, _: build_models(settings)}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_each_step_waits_for_the_lock(bucket, settings, holder, monkeypatch, step: Callable):
    pauses = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            holder.kill()
            holder.wait(600)

    monkeypatch.setattr(tenacity.nap, "time", SimpleNamespace(sleep=pause))
    assert step(settings, bucket)
    assert len(pauses) == 3


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_no_step_waits_forever(bucket, settings, holder, monkeypatch, step: Callable):
    monkeypatch.setattr(lock.open_when_free.retry, "stop", tenacity.stop_after_delay(1))
    with pytest.raises(WarehouseError, match=rf"is open elsewhere.*Close it there.*\(PID {holder.pid}\)"):
        step(settings, bucket)
