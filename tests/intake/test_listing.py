"""Finding new chunks among many, with few calls to S3 and without missing any."""

import time

import pytest
from support.loading import GOOD, put, query
from tallymark.intake import listing
from tallymark.pipeline import load
from tallymark.settings import Settings
from tallymark.store.folder import FolderStore
from tallymark.warehouse.ledger_index import LedgerIndex


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(warehouse=tmp_path / "warehouse.duckdb")


class Counting(FolderStore):
    """A folder that records which places were listed for chunks."""

    def list(self, prefix, after="", is_enough=None):
        if prefix.startswith("input/transactions/"):
            self.listed.append((prefix, after))
        return super().list(prefix, after, is_enough)


@pytest.fixture
def bucket(settings, tmp_path) -> Counting:
    """A folder with chunk_1, which was taken; according to the ledger index, so were the chunks up to chunk_9999."""
    bucket = Counting(tmp_path)
    bucket.listed = []
    put(bucket, "chunk_1", GOOD)
    load.load_chunks(settings, bucket)
    keys = [f"input/transactions/chunk_{number}" for number in range(2, 10_000)]
    LedgerIndex(settings.warehouse, settings.limits).replace(keys, [(key, "x") for key in keys])
    load.load_chunks(settings, bucket)
    bucket.listed.clear()
    return bucket


@pytest.mark.parametrize("name", ["chunk_99990.csv", "chunk_9999a", "chunk_10000", "chunk_10000.csv"])
def test_next_chunk_is_found_without_full_listing(settings, bucket, name):
    put(bucket, name, GOOD)
    assert load.load_chunks(settings, bucket)["chunks_accepted"] == 1
    assert ("input/transactions/", "") not in bucket.listed
    assert len(bucket.listed) == 4  # two places, and both again for chunks that landed meanwhile


def test_late_chunk_is_found_by_full_listing(settings, bucket, monkeypatch):
    now = time.time
    put(bucket, "chunk_0", GOOD)
    assert load.load_chunks(settings, bucket)["chunks_accepted"] == 0
    monkeypatch.setattr(time, "time", lambda: now() + settings.full_listing_seconds + 1)
    put(bucket, "chunk_00", GOOD)
    assert load.load_chunks(settings, bucket)["chunks_accepted"] == 2
    index = LedgerIndex(settings.warehouse, settings.limits)
    places = listing.places(index, "input/transactions/", settings.full_listing_seconds)
    assert len(places) == 2, "the next full listing is due later"


def test_chunks_that_land_during_load_are_taken(settings, tmp_path):
    class Busy(FolderStore):
        """A folder in which a chunk lands whenever one is read, until there are four."""

        def get(self, stored):
            number = len(list(self.list("input/transactions/"))) + 1
            if number <= 4:
                put(self, f"chunk_{number}", GOOD)
            return super().get(stored)

    bucket = Busy(tmp_path)
    put(bucket, "chunk_1", GOOD)
    assert load.load_chunks(settings, bucket, max_chunks=3)["chunks_accepted"] == 3
    assert load.load_chunks(settings, bucket)["chunks_accepted"] == 1
    chunks = [(number, f"input/transactions/chunk_{number}") for number in range(1, 5)]
    assert query(settings, "select chunk_seq, chunk_key from raw.chunks order by 1") == chunks
