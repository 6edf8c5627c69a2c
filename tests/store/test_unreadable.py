"""Objects that are unreadable, that changed, or that only seem to have changed."""

import gzip
import os
import re

import boto3
import pytest
from tallymark.store import BucketError, ObjectChangedError, UnreadableError
from tallymark.store.explain import CONTINUES
from tallymark.store.s3 import ATTEMPTS, S3Store

KEY = "input/chunk_1.csv"
OBJECT = rf"GET /\w+/{KEY}"
CSV = b"customer,merchant\n" + b"C1,M1\n" * 50


@pytest.fixture
def chunk(bucket):
    """Put an object and return its listing."""
    bucket.put(KEY, CSV)
    return bucket.listed(KEY)


def unreadable(bucket, stored) -> UnreadableError:
    with pytest.raises(UnreadableError) as raised:
        bucket.store.get(stored)
    for detail in (KEY, bucket.store.bucket, bucket.proxy.url):
        assert detail in str(raised.value)
    return raised.value


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        ("400_InvalidRequest", "S3 does not serve the object as stored. Put it again, or delete it."),
        ("403_AccessDenied", "The object may also have its own access rules or encryption key."),
        ("403_InvalidObjectState", "Restore the object from its archive."),
        ("404_NoSuchKey", "S3 lists the object but does not find it. Put it again, or delete it."),
        ("406_NotAcceptable", "S3 does not serve the object as stored. Put it again, or delete it."),
        ("410_Gone", "S3 does not serve the object as stored. Put it again, or delete it."),
    ],
)
def test_error_about_object_is_definite(bucket, chunk, answer, advice):
    bucket.behaves(f"answer_{answer}", requests=OBJECT)
    error = unreadable(bucket, chunk)
    assert error.is_definite
    assert error.is_archived == (answer == "403_InvalidObjectState")
    assert str(error).endswith(advice)
    assert CONTINUES not in str(error)


@pytest.mark.parametrize(
    "kind",
    [
        "answer_500_InternalError",
        "answer_503_SlowDown",
        "answer_429_TooManyRequests",
        "answer_400_RequestTimeout",
        "answer_403_SignatureDoesNotMatch",
        "answer_400_ExpiredToken",
        "answer_401_Unauthorized",
        "reset",
        "cut",
        "shortened",
        "html",
    ],
)
def test_possible_outage_is_not_definite(bucket, chunk, kind):
    bucket.behaves(kind, requests=OBJECT)
    error = unreadable(bucket, chunk)
    assert not error.is_definite
    is_about_client = re.search("Signature|Expired|Unauthorized", kind)
    assert ("Check the Airflow connection my_s3" in str(error)) == bool(is_about_client)
    assert (f"Otherwise, S3 is unreachable. {CONTINUES}" in str(error)) == (not is_about_client)
    assert len(bucket.asked("GET")) <= ATTEMPTS**2 + 1


def test_missing_bucket_is_not_about_object(bucket, chunk):
    bucket.behaves("answer_404_NoSuchBucket", requests=OBJECT)
    with pytest.raises(BucketError, match="Create the bucket, or set TALLYMARK_BUCKET to another one") as raised:
        bucket.store.get(chunk)
    assert not isinstance(raised.value, UnreadableError)


def test_missing_credentials_are_not_about_object(bucket, chunk, monkeypatch):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {"SHARED_CREDENTIALS_FILE": os.devnull, "CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    client = boto3.session.Session().client("s3", endpoint_url=bucket.proxy.url, region_name="us-east-1")
    store = S3Store(client, bucket.store.bucket)
    with pytest.raises(BucketError, match="Check the AWS configuration of this process, and") as raised:
        store.get(chunk)
    assert not isinstance(raised.value, UnreadableError)


@pytest.mark.parametrize("manner", [(), ("ignores_if_match",), ("no_etag",)])
def test_replaced_object_is_detected(bucket, manner):
    """Without ETags, only size and time distinguish versions, and both versions are from the same second here."""
    bucket.behaves(*manner)
    for body in [CSV[:-6]] if manner == ("no_etag",) else [CSV[:-6], CSV.replace(b"1", b"2")]:
        bucket.put(KEY, CSV)
        stored = bucket.listed(KEY)
        bucket.put(KEY, body)
        with pytest.raises(ObjectChangedError, match=rf"{KEY} in bucket \w+ at http.* was replaced after"):
            bucket.store.get(stored)


def test_deleted_object_is_detected(bucket, chunk):
    bucket.delete(KEY)
    with pytest.raises(ObjectChangedError, match="was deleted after it was listed"):
        bucket.store.get(chunk)


def test_outage_during_second_listing(bucket, chunk):
    bucket.proxy.faults = []
    bucket.delete(KEY)
    bucket.behaves("answer_500_InternalError", requests=r"\?list-type")
    with pytest.raises(BucketError, match=r"Could not list input/chunk_1\.csv .* S3 is unreachable") as raised:
        bucket.store.get(chunk)
    assert not isinstance(raised.value, UnreadableError)


@pytest.mark.parametrize("manner", ["other_etag", "weak_etag", "if_match_wants_quotes", "ignores_if_match", "packed"])
def test_object_with_another_etag_is_read(bucket, chunk, manner):
    bucket.behaves(manner, requests=OBJECT)
    assert bucket.store.get(chunk) == CSV


def test_unexpected_size_is_unreadable(bucket):
    """The second listing still has the original size, so the server does not serve the listed object."""
    bucket.put(KEY, CSV)
    stored = bucket.listed(KEY)
    bucket.behaves("shortened", requests=OBJECT)
    error = unreadable(bucket, stored)
    assert f"received {len(CSV) // 2} bytes, but {len(CSV)} are listed" in str(error)
    bucket.behaves("shortened", "other_etag", requests=OBJECT)
    assert not unreadable(bucket, stored).is_definite


@pytest.mark.parametrize("manner", [(), ("unpacked",)])
@pytest.mark.parametrize("name", ["chunk_1.csv.gz", "chunk_1.csv"])
def test_gzip_object_is_not_decompressed(bucket, manner, name):
    """Neither the server nor boto3 decompresses it."""
    compressed = gzip.compress(CSV)
    bucket.put(name, compressed, ContentEncoding="gzip")
    bucket.behaves(*manner)
    assert bucket.store.get(bucket.listed(name)) == compressed


def test_own_files_are_compared_decompressed(bucket):
    """A proxy that compresses responses does not make an existing file look different."""
    bucket.put(KEY, CSV)
    bucket.behaves("packed", requests="GET")
    bucket.store.put_new(KEY, CSV)


def test_accept_encoding_is_not_signed(bucket, chunk):
    signed, sent = [], []
    events = bucket.store.client.meta.events
    events.register_first("before-send.s3", lambda request, **_: signed.append(request.headers["Authorization"]))
    events.register_last("before-send.s3", lambda request, **_: sent.append(request.headers.get("Accept-Encoding")))
    bucket.store.get(chunk)
    assert sent == ["gzip"]
    assert "accept-encoding" not in str(signed[0])
