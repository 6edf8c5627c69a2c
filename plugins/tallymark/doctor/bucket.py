"""Check the bucket and its server: what works, what needs a fallback, and what fails.

The calls are harmless. The only object that they write is ``<output prefix>doctor.txt``. It is not deleted, because
Tallymark needs no permission to delete.
"""

import dataclasses
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from botocore.exceptions import ClientError

from tallymark.doctor import Finding, Verdict
from tallymark.settings import ENCRYPTIONS, Settings
from tallymark.store import BucketError, ObjectChangedError, bare_etag
from tallymark.store.explain import code, explained, status
from tallymark.store.s3 import S3Store, entries_of, rejects_condition

# S3 rejects requests whose time is more than 15 minutes off.
REJECTED_SECONDS = 15 * 60
NOTICEABLE_SECONDS = 5


def probe_key(settings: Settings) -> str:
    """Return the key of the one object that these checks write."""
    return f"{settings.output_prefix}doctor.txt"


def check_bucket(settings: Settings, store: S3Store) -> Iterator[Finding]:
    """Check the bucket. If it cannot be listed, skip the checks that need a listing."""
    clock = _Clock(store.client)
    try:
        yield from _check_calls(settings, store)
    finally:
        clock.stop()
    yield clock.finding()


def _check_calls(settings: Settings, store: S3Store) -> Iterator[Finding]:
    listable = yield from _check_listing(settings, store)
    if not listable:
        yield Finding(
            Verdict.NOT_CHECKED,
            "bucket",
            "the other checks, because they need a listing",
        )
        return
    written = yield from _check_put(settings, store)
    checks = [_check_pages, _check_input]
    if written:
        checks = [_check_conditional_put, _check_read_after_write, _check_conditional_get, *checks]
    for check in checks:
        yield from _run_check(check, settings, store)


Check = Callable[[Settings, S3Store], Iterator[Finding]]


def _run_check(check: Check, settings: Settings, store: S3Store) -> Iterator[Finding]:
    """Run a check. If a call to S3 fails, only this check fails."""
    about = check.__name__.removeprefix("_check_").replace("_", " ")
    try:
        yield from check(settings, store)
    except BucketError as error:
        yield Finding(Verdict.FAILS, about, str(error))


def _check_listing(settings: Settings, store: S3Store) -> Generator[Finding, None, bool]:
    """Check the three prefixes; return whether all of them can be listed."""
    if settings.bucket.endswith("--x-s3"):
        yield Finding(
            Verdict.FAILS,
            "bucket",
            f"{settings.bucket} is a directory bucket (S3 Express), which lists neither in key order nor from a given "
            "key. Use a general-purpose bucket.",
        )
        return False
    found = []
    for prefix in (settings.transactions_prefix, settings.customers_prefix, settings.output_prefix):
        try:
            found.append(f"{prefix or 'the bucket'} ({_objects(len(_list(store, prefix)))})")
        except BucketError as error:
            yield Finding(Verdict.FAILS, "listing", f"{error}{_payer_hint(store, prefix, error)}")
            return False
    yield Finding(Verdict.WORKS, "listing", f"{', '.join(found)} can be listed")
    return True


def _objects(count: int) -> str:
    return {0: "empty", 1: "1 object", 1000: "1,000 or more objects"}.get(count, f"{count} objects")


def _list(store: S3Store, prefix: str, **more: Any) -> list[dict[str, Any]]:
    with explained(f"list {prefix}", store.client, store.bucket, store.aws_conn_id):
        return entries_of(_page(store, prefix, **more))


def _page(store: S3Store, prefix: str, **more: Any) -> dict[str, Any]:
    payer = {"RequestPayer": "requester"} if store.requester_pays else {}
    with explained(f"list {prefix}", store.client, store.bucket, store.aws_conn_id):
        return store.client.list_objects_v2(Bucket=store.bucket, Prefix=prefix, **payer, **more)


def _payer_hint(store: S3Store, prefix: str, error: BucketError) -> str:
    if status(error.__cause__) != 403 or store.requester_pays:
        return ""
    try:
        _list(dataclasses.replace(store, requester_pays=True), prefix)
    except BucketError:
        return ""
    return " This is a requester-pays bucket: set TALLYMARK_REQUESTER_PAYS=true."


def _check_put(settings: Settings, store: S3Store) -> Generator[Finding, None, bool]:
    """Write the probe; return whether this succeeded."""
    key = probe_key(settings)
    try:
        store.put(key, _probe_body())
    except BucketError as error:
        yield Finding(Verdict.FAILS, "put", f"{error}{_put_hint(store, key, error)}")
        return False
    sent = ["Content-MD5", *filter(None, [store.server_side_encryption, store.kms_key_id])]
    checksums = getattr(store.client.meta.config, "request_checksum_calculation", None)
    if checksums == "when_supported":
        sent.append("checksum headers (request_checksum_calculation in the connection)")
    yield Finding(Verdict.WORKS, "put", f"{key} was put with {', '.join(sent)}")
    return True


def _probe_body() -> bytes:
    now = datetime.now(UTC).isoformat()
    return f"Written by tallymark doctor at {now} to check this bucket. Nothing reads it. You may delete it.\n".encode()


def _put_hint(store: S3Store, key: str, error: BucketError) -> str:
    """Find a setting that helps by trying. The encryption does not change the content of the probe."""
    cause = error.__cause__
    if "checksum" in str(cause).lower():
        return (
            ' Remove request_checksum_calculation from the connection\'s config_kwargs, or set it to "when_required".'
        )
    if status(cause) != 403:
        return ""
    for encryption in ENCRYPTIONS:
        if encryption == store.server_side_encryption:
            continue
        try:
            dataclasses.replace(store, server_side_encryption=encryption, kms_key_id="").put(key, _probe_body())
        except BucketError:
            continue
        return f" Set TALLYMARK_SERVER_SIDE_ENCRYPTION={encryption}, which the bucket accepts."
    return ""


def _check_conditional_put(settings: Settings, store: S3Store) -> Iterator[Finding]:
    about, falls_back = "put new", "Tallymark checks the key before each PUT"
    only_one = "Let only one warehouse export to this prefix."
    try:
        store.put_object(probe_key(settings), _probe_body(), IfNoneMatch="*")
    except ClientError as error:
        if status(error) in (304, 409, 412):
            yield Finding(Verdict.WORKS, about, "the server does not overwrite existing objects (If-None-Match)")
        elif rejects_condition(error):
            yield Finding(
                Verdict.FALLS_BACK,
                about,
                f"the server does not support conditional writes ({code(error)}). {falls_back} and reads the object "
                f"back. {only_one}",
            )
        else:
            yield Finding(Verdict.FAILS, about, f"a PUT with If-None-Match failed: {error}")
    else:
        yield Finding(Verdict.FALLS_BACK, about, f"the server ignores If-None-Match. {falls_back}. {only_one}")


def _check_read_after_write(settings: Settings, store: S3Store) -> Iterator[Finding]:
    key, body = probe_key(settings), _probe_body()
    store.put(key, body)
    entry = next((entry for entry in _list(store, key) if entry["Key"] == key), None)
    if entry is None:
        yield Finding(Verdict.FALLS_BACK, "listing", f"{key} is not listed right after its PUT: chunks are found late")
        return
    if bare_etag(entry["ETag"]):
        yield Finding(Verdict.WORKS, "ETags", "the listing has an ETag for each object")
    else:
        yield Finding(
            Verdict.FALLS_BACK,
            "ETags",
            "the listing has no ETags. Tallymark tells versions apart by size and time. It misses a chunk that is "
            "replaced within a second by one of the same size.",
        )
    if any(entry["Key"] == key for entry in _list(store, key, StartAfter=key)):
        yield Finding(
            Verdict.FALLS_BACK,
            "StartAfter",
            "the server ignores StartAfter. Each search for new chunks lists all chunks.",
        )
    else:
        yield Finding(Verdict.WORKS, "StartAfter", "the listing starts after a given key")
    try:
        listed = next(found for found in store.list(key) if found.key == key)
        is_current = store.get(listed) == body
    except ObjectChangedError:
        is_current = False
    if is_current:
        yield Finding(Verdict.WORKS, "get", "a read returns the latest write")
    else:
        yield Finding(
            Verdict.FAILS,
            "get",
            f"a read of {key} did not return the latest write. Tallymark needs reads that see all earlier writes: turn "
            "off caches between this machine and the server.",
        )


def _check_conditional_get(settings: Settings, store: S3Store) -> Iterator[Finding]:
    key = probe_key(settings)
    entry = next(entry for entry in _list(store, key) if entry["Key"] == key)
    etag = bare_etag(entry["ETag"])
    if not etag:
        yield Finding(Verdict.NOT_CHECKED, "If-Match", "the listing has no ETags")
        return
    if not _get_answers(store, key, etag):
        yield Finding(
            Verdict.FALLS_BACK,
            "If-Match",
            "the server's GET response and its listing have different ETags for an object. Tallymark lists the object "
            "again to see whether it changed.",
        )
    elif _get_answers(store, key, "0" * 32):
        yield Finding(Verdict.FALLS_BACK, "If-Match", "the server ignores If-Match. Tallymark compares ETags itself.")
    else:
        yield Finding(Verdict.WORKS, "If-Match", "the server rejects a GET if the object has changed")


def _get_answers(store: S3Store, key: str, etag: str | None) -> bool:
    """Get an object and read only its headers; return False if it has another ETag."""
    condition = {"IfMatch": f'"{etag}"'} if etag else {}
    payer = {"RequestPayer": "requester"} if store.requester_pays else {}
    with explained(f"get {key}", store.client, store.bucket, store.aws_conn_id):
        try:
            answer = store.client.get_object(Bucket=store.bucket, Key=key, **condition, **payer)
        except ClientError as error:
            if etag and status(error) == 412:
                return False
            raise
        answer["Body"].close()
    return True


def _check_pages(settings: Settings, store: S3Store) -> Iterator[Finding]:
    for prefix in (settings.transactions_prefix, settings.customers_prefix, settings.output_prefix):
        first = _page(store, prefix, MaxKeys=1)
        if not first.get("IsTruncated"):
            continue
        token = first.get("NextContinuationToken")
        if not token:
            yield Finding(Verdict.FAILS, "pages", "the listing is truncated, but has no continuation token")
            return
        keys = [entry["Key"] for entry in first["Contents"]]
        keys += [entry["Key"] for entry in _list(store, prefix, MaxKeys=1, ContinuationToken=token)]
        if len(keys) != 2 or keys[0] == keys[1]:
            yield Finding(Verdict.FAILS, "pages", f"the second page of the listing of {prefix} repeats the first")
        elif keys != sorted(keys):
            yield Finding(
                Verdict.FALLS_BACK,
                "pages",
                "the listing is not in key order. With more than 1,000 chunks, a new chunk may wait for the next full "
                "listing (TALLYMARK_FULL_LISTING_SECONDS).",
            )
        else:
            yield Finding(Verdict.WORKS, "pages", "the listing continues from page to page, in key order")
        return
    yield Finding(Verdict.NOT_CHECKED, "pages", "no prefix contains two objects yet. Run the doctor again later.")


def _check_input(settings: Settings, store: S3Store) -> Iterator[Finding]:
    for prefix in (settings.transactions_prefix, settings.customers_prefix):
        listed = [entry for entry in _list(store, prefix, MaxKeys=100) if entry["Size"]]
        if not listed:
            yield Finding(Verdict.NOT_CHECKED, "input", f"{prefix or 'the bucket'} contains no objects yet")
            continue
        key = listed[0]["Key"]
        try:
            _get_answers(store, key, None)
        except BucketError as error:
            yield Finding(Verdict.FAILS, "input", str(error))
        else:
            yield Finding(Verdict.WORKS, "input", f"{key} can be read")


class _Clock:
    """Measures how far the server's clock is ahead of this machine's, by the ``Date`` header of the last response."""

    def __init__(self, client: Any):
        self._events = client.meta.events
        self._ahead: float | None = None
        self._events.register("after-call.s3", self._note, unique_id="tallymark-doctor-clock")

    def stop(self) -> None:
        self._events.unregister("after-call.s3", unique_id="tallymark-doctor-clock")

    def _note(self, http_response: Any, **_: Any) -> None:
        if date := http_response.headers.get("Date"):
            self._ahead = (parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds()

    def finding(self) -> Finding:
        if self._ahead is None:
            return Finding(Verdict.NOT_CHECKED, "clock", "the server's responses have no Date header")
        off, way = abs(self._ahead), "ahead of" if self._ahead > 0 else "behind"
        if off < NOTICEABLE_SECONDS:
            return Finding(Verdict.WORKS, "clock", f"less than {NOTICEABLE_SECONDS} seconds off the server's clock")
        difference = f"the server's clock is {off:.0f} seconds {way} this machine's"
        if off < REJECTED_SECONDS:
            return Finding(
                Verdict.FALLS_BACK, "clock", f"{difference}. The lag is wrong by as much. Synchronize both with NTP."
            )
        return Finding(
            Verdict.FAILS,
            "clock",
            f"{difference}, and S3 rejects requests that are 15 minutes off. Synchronize both with NTP.",
        )
