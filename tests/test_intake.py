"""What is taken from the bucket: which objects count, how they are read, and what is known of them already."""

import pytest
from tallymark import load, work
from tallymark.chunks import find_chunks
from tallymark.csv_lines import limits
from tallymark.page.reader import SQL_FOLDER as PAGE_SQL
from tallymark.settings import Settings
from tallymark.store import FolderStore
from tallymark.warehouse import connect
from test_load import GOOD, put


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(warehouse=tmp_path / "warehouse.duckdb")


@pytest.fixture
def bucket(tmp_path) -> FolderStore:
    return FolderStore(tmp_path)


def waiting_on_the_page(settings: Settings, bucket: FolderStore) -> list[str]:
    chunks = find_chunks(bucket.list("input/transactions/"), "input/transactions/")
    asked = {"keys": [chunk.key for chunk in chunks], "etags": [chunk.etag for chunk in chunks]}
    with connect(settings) as warehouse:
        warehouse.execute("create temp view ledger as from raw.chunks")
        warehouse.execute("create temp view conflicts as from raw.conflicts")
        query = (PAGE_SQL / "unknown_chunks.sql").read_text()
        found = warehouse.execute(query, asked | {"limits": limits(settings)}).fetchall()
    return [chunks[place].key for (place,) in found]


def test_the_page_waits_for_the_same_chunks_as_the_load(settings, bucket):
    """Rejected; rejected for a limit that changes; replaced, and replaced by what was rejected."""
    small = settings.model_copy(update={"max_object_bytes": 100})
    put(bucket, "chunk_1", "no header\n")
    put(bucket, "chunk_2", GOOD)
    load.load_chunks(small, bucket)
    for content, by, expected in (
        (None, small, []),
        (None, settings, ["chunk_2"]),
        (GOOD, settings, ["chunk_1", "chunk_2"]),
        ("no header\n", settings, ["chunk_1"]),
    ):
        if content:
            put(bucket, "chunk_1", content)
        waiting = [chunk.key for chunk in work.waiting_chunks(by, bucket.list("input/"))]
        assert waiting == waiting_on_the_page(by, bucket) == [f"input/transactions/{name}" for name in expected]
        if content:
            load.load_chunks(by, bucket)
            assert work.waiting_chunks(by, bucket.list("input/")) == []
