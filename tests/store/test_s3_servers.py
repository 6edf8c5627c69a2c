"""Fallbacks for servers that support less than S3."""

import logging
from datetime import UTC, datetime

import pytest
from botocore.config import Config
from tallymark.store import BucketError, OtherContentError, StoredObject
from tallymark.store import s3 as store_s3
from tallymark.store.s3 import S3_CONFIG, S3Store, entries

KEY = "output/file.csv"
PUT = rf"PUT /\w+/{KEY}"
LISTING = r"\?list-type"


@pytest.fixture(autouse=True)
def _no_memory_of_other_tests(monkeypatch):
    monkeypatch.setattr(store_s3, "_without_conditional_writes", set())


def test_listing_without_etags(bucket):
    bucket.put(KEY, b"1")
    bucket.behaves("no_etag")
    stored = bucket.listed(KEY)
    assert not stored.has_etag
    assert stored.etag.startswith("1 bytes, 20")
    assert bucket.listed(KEY) == stored
    assert bucket.store.get(stored) == b"1"
    bucket.put(KEY, b"22")
    assert bucket.listed(KEY).etag != stored.etag


@pytest.mark.parametrize(("etag", "bare"), [('"a"', "a"), ("a", "a"), ('W/"a"', "a"), ('"W-1"', "W-1")])
def test_etag_forms(etag, bare):
    entry = {"Key": "k", "Size": 1, "LastModified": datetime(2026, 1, 1, tzinfo=UTC)}
    assert StoredObject.from_listing(entry | {"ETag": etag}).etag == bare


@pytest.mark.parametrize("etag", [{}, {"ETag": ""}, {"ETag": '""'}])
def test_missing_etag_forms(etag):
    entry = {"Key": "k", "Size": 1, "LastModified": datetime(2026, 1, 1, tzinfo=UTC)}
    assert not StoredObject.from_listing(entry | etag).has_etag


@pytest.mark.parametrize(("manner", "field"), [("no_size", "Size"), ("no_time", "LastModified")])
def test_listing_without_size_or_time_is_explained(bucket, manner, field):
    bucket.put(KEY, b"1")
    bucket.behaves(manner)
    with pytest.raises(BucketError) as raised:
        list(bucket.store.list("output/"))
    assert str(raised.value) == (
        f"Could not list output/ in bucket {bucket.store.bucket} at {bucket.proxy.url}: the listing has no {field} for "
        f"{KEY}. The server does not behave like S3. Check endpoint_url of the Airflow connection my_s3. "
        "docs/s3-stores.md lists what a server must support, and make doctor checks it."
    )


@pytest.mark.parametrize("manner", ["same_token", "html", "answer_501_NotImplemented"])
def test_invalid_listing_is_not_an_outage(bucket, manner):
    bucket.put(KEY, b"1")
    bucket.behaves(manner, requests=LISTING)
    with pytest.raises(BucketError, match="The server does not behave like S3") as raised:
        list(bucket.store.list("output/"))
    assert "S3 is unreachable" not in str(raised.value)


def test_server_that_ignores_start_after(bucket):
    """Older keys are skipped, and do not end the listing before newer ones arrive."""
    for number in range(5):
        bucket.put(f"chunk_{number}", b"1")
    bucket.behaves("ignores_start_after", requests=LISTING)
    calls = []
    found = list(bucket.store.list("chunk_", after="chunk_2", is_enough=lambda keys: calls.append(keys) or True))
    assert [stored.key for stored in found] == ["chunk_3", "chunk_4"]
    assert calls == []
    bucket.behaves()
    found = list(bucket.store.list("chunk_", after="chunk_2", is_enough=lambda keys: calls.append(keys) or True))
    assert [stored.key for stored in found] == ["chunk_3", "chunk_4"]
    assert calls == [["chunk_3", "chunk_4"]]


@pytest.mark.parametrize("manner", ["no_conditional_put", "no_conditional_put_400", "answer"])
def test_server_without_conditional_writes(bucket, caplog, manner):
    """The store puts and reads back, warns once per process, and no longer sends the condition."""
    bucket.behaves(manner, requests="PUT") if manner != "answer" else None
    if manner == "answer":
        bucket.proxy.choose = lambda request: "no_conditional_put_400" if request.startswith("PUT") else None
    bucket.store.put_new(KEY, b"1")
    bucket.store.put_new(KEY, b"1")
    bucket.store.put_new("output/second.csv", b"2")
    assert [bucket.has(key) for key in (KEY, "output/second.csv")] == [b"1", b"2"]
    assert len(bucket.asked("PUT")) == 3
    with pytest.raises(OtherContentError):
        bucket.store.put_new(KEY, b"other")
    assert bucket.has(KEY) == b"1"
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert f"The server at {bucket.proxy.url} does not support conditional writes" in warnings[0]


def test_put_without_condition_is_read_back(bucket):
    """Detects that another writer was faster, and that a put had no effect."""
    bucket.proxy.choose = lambda request: "no_conditional_put" if request.startswith("PUT") else None
    original = bucket.store.client.put_object

    def put_object(**given):
        original(**given)
        bucket.put(KEY, b"by another writer")

    bucket.store.client.put_object = put_object
    with pytest.raises(OtherContentError, match="Check whether another warehouse writes to the same prefix"):
        bucket.store.put_new(KEY, b"1")
    bucket.store.client.put_object = original
    bucket.delete(KEY)
    bucket.proxy.choose = None
    bucket.behaves("forgets_put", requests="PUT")
    store_s3._without_conditional_writes.add(bucket.proxy.url)
    with pytest.raises(BucketError, match="the object was put, but S3 does not find it"):
        bucket.store.put_new(KEY, b"1")


def test_other_501_response_is_an_error(bucket, caplog):
    bucket.behaves("answer_501_NotImplemented", requests="PUT")
    with pytest.raises(BucketError, match=f"Could not put {KEY} .* The server does not behave like S3"):
        bucket.store.put_new(KEY, b"1")
    assert not caplog.records


def test_conflict_without_object_is_retried(bucket):
    """S3 reports another write in progress. Later the key is free, or S3 still reports a conflict."""
    bucket.behaves("answer_409_ConditionalRequestConflict", requests="PUT")
    bucket.proxy.faults[0].times = 2
    bucket.store.put_new(KEY, b"1")
    assert bucket.has(KEY) == b"1"
    bucket.behaves("answer_412_PreconditionFailed", requests="PUT")
    with pytest.raises(BucketError, match=r"Could not put output/other\.csv .*412|PreconditionFailed"):
        bucket.store.put_new("output/other.csv", b"1")


def test_checksum_headers_are_opt_in(bucket, moto):
    bucket.behaves("no_checksums")
    bucket.store.put_new(KEY, b"1")
    bucket.store.put(KEY, b"2")
    assert bucket.store.get(bucket.listed(KEY)) == b"2"
    config = S3_CONFIG.merge(Config(request_checksum_calculation="when_supported"))
    supported = S3Store(moto.client(url=bucket.proxy.url, config=config), bucket.store.bucket)
    with pytest.raises(BucketError, match="Unsupported header 'x-amz-"):
        supported.put(KEY, b"3")


def test_puts_carry_an_md5(bucket):
    """Buckets with object lock reject puts without a checksum."""
    bucket.behaves("wants_md5", requests="PUT")
    bucket.store.put_new(KEY, b"1")
    bucket.store.put(KEY, b"2")
    assert bucket.has(KEY) == b"2"


@pytest.mark.parametrize(
    ("manner", "settings"),
    [
        ("wants_aes256", {"server_side_encryption": "AES256"}),
        ("wants_kms", {"server_side_encryption": "aws:kms"}),
        ("wants_kms", {"server_side_encryption": "aws:kms", "kms_key_id": "arn:aws:kms:us-east-1:1:key/k"}),
    ],
)
def test_policy_that_requires_encryption(bucket, manner, settings):
    bucket.behaves(manner, requests="PUT")
    with pytest.raises(BucketError, match=r"set TALLYMARK_SERVER_SIDE_ENCRYPTION and .* \(sent now: none\)"):
        bucket.store.put_new(KEY, b"1")
    encrypting = S3Store(bucket.store.client, bucket.store.bucket, "my_s3", **settings)
    encrypting.put_new(KEY, b"1")
    encrypting.put("output/latest", b"2")
    head = bucket.direct.client.head_object(Bucket=bucket.store.bucket, Key=KEY)
    assert head["ServerSideEncryption"] == settings["server_side_encryption"]
    assert head.get("SSEKMSKeyId") == settings.get("kms_key_id")


def test_no_other_encryption_is_tried(bucket):
    bucket.behaves("wants_kms", requests="PUT")
    encrypting = S3Store(bucket.store.client, bucket.store.bucket, "my_s3", "AES256")
    with pytest.raises(BucketError, match=r"\(sent now: AES256\)"):
        encrypting.put_new(KEY, b"1")
    assert len(bucket.asked("PUT")) == 1


def test_requester_pays(bucket):
    bucket.put(KEY, b"1")
    bucket.behaves("wants_payer")
    with pytest.raises(BucketError, match="AccessDenied"):
        list(bucket.store.list("output/"))
    paying = S3Store(bucket.store.client, bucket.store.bucket, requester_pays=True)
    [stored] = paying.list("output/")
    assert paying.get(stored) == b"1"
    paying.put_new("output/new.csv", b"2")
    paying.put("output/new.csv", b"3")
    assert next(entries(bucket.store.client, bucket.store.bucket, "output/", requester_pays=True))["Key"] == KEY


def test_missing_key_with_unusual_code(bucket):
    """Not every server returns NoSuchKey."""
    bucket.behaves("answer_404_NotFound", requests=f"GET .*{KEY}")
    bucket.proxy.faults[0].times = 1
    bucket.store.put_new(KEY, b"1")
    assert bucket.has(KEY) == b"1"
