"""Staging of rows between the warehouse and Spark in a bucket."""

import pytest
from support.bucket import names
from support.streams import THRESHOLDS
from tallymark.pipeline.build import build_models
from tallymark.pipeline.export import export_detections
from tallymark.pipeline.load import load_chunks
from tallymark.settings import Settings
from tallymark.store.s3 import S3Store


# Apache Spark would need another 600 MB of jars.
@pytest.mark.system
@pytest.mark.parametrize("engine", ["sail"], indirect=True)
def test_rows_travel_through_the_bucket(moto, data, tmp_path, monkeypatch, expected):
    name = next(names)
    moto.client().create_bucket(Bucket=name)
    store = S3Store(moto.client(), name)
    for path in sorted(path for path in data.rglob("*") if path.is_file()):
        store.put(str(path.relative_to(data)), path.read_bytes())
    monkeypatch.setenv("TALLYMARK_LAKE_STAGING", f"s3://{name}")
    settings = Settings(warehouse=tmp_path / "warehouse.duckdb", vars=THRESHOLDS)
    load_chunks(settings, store)
    build_models(settings, store=store)
    exported = export_detections(settings, store)
    assert exported["detections"] == len(expected["detections"])
    assert list(store.list("output/staging/"))
    assert not (tmp_path / "staging").exists()
