"""The bucket and its server: does it do what Tallymark needs, and what does Tallymark fall back to?

The calls are harmless. The only object that is written is ``<output prefix>doctor.txt``. Nothing deletes it, as
Tallymark needs no right to delete; nothing reads it either.
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
    """Check the bucket; checks that need a listing are left out when it cannot be listed."""
    clock = _Clock(store.client)
    try:
        yield from _check_calls(settings, store)
    finally:
        clock.stop()
    yield clock.finding()


def _check_calls(settings: Settings, store: S3Store) -> Iterator[Finding]:
    listable = yield from _check_listing(settings, store)
    if not listable:
        yield Finding(Verdict.NOT_CHECKED, "bucket", "reading, writing and conditions, which need a listing")
        return
    written = yield from _check_put(settings, store)
    checks = [_check_pages, _check_input]
    if written:
        checks = [_check_conditional_put, _check_read_after_write, _check_conditional_get, *checks]
    for check in checks:
        yield from _failing_alone(check, settings, store)


Check = Callable[[Settings, S3Store], Iterator[Finding]]


def _failing_alone(check: Check, settings: Settings, store: S3Store) -> Iterator[Finding]:
    about = check.__name__.removeprefix("_check_").replace("_", " ")
    try:
        yield from check(settings, store)
    except BucketError as error:
        yield Finding(Verdict.FAILS, about, str(error))


def _check_listing(settings: Settings, store: S3Store) -> Generator[Finding, None, bool]:
    """Returns whether all three prefixes can be listed."""
    if settings.bucket.endswith("--x-s3"):
        yield Finding(
            Verdict.FAILS,
            "bucket",
            f"{settings.bucket} is a directory bucket (S3 Express), which lists neither in order nor from a given key. "
            "Use a general purpose bucket.",
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
    return {0: "empty", 1: "1 object", 1000: "1000 objects or more"}.get(count, f"{count} objects")


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
    return " The requester pays for this bucket: set TALLYMARK_REQUESTER_PAYS=true."


def _check_put(settings: Settings, store: S3Store) -> Generator[Finding, None, bool]:
    """Returns whether the probe was written."""
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
    return f"Written by tallymark doctor at {now} to check this bucket. Nothing reads it; it may be deleted.\n".encode()


def _put_hint(store: S3Store, key: str, error: BucketError) -> str:
    """Find out by trying which setting helps; the object is the same whatever it is encrypted with."""
    cause = error.__cause__
    said = str(cause).lower()
    if "checksum" in said:
        return (
            ' Remove request_checksum_calculation from config_kwargs of the connection, or set it to "when_required".'
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
        return f" The bucket accepts it with TALLYMARK_SERVER_SIDE_ENCRYPTION={encryption}: set that."
    return ""


def _check_conditional_put(settings: Settings, store: S3Store) -> Iterator[Finding]:
    about, falls_back = "put new", "Tallymark looks before it puts a file"
    only_one = "Let only one warehouse export to this prefix."
    try:
        store.put_object(probe_key(settings), _probe_body(), IfNoneMatch="*")
    except ClientError as error:
        if status(error) in (304, 409, 412):
            yield Finding(Verdict.WORKS, about, "the server never replaces an object that is there (If-None-Match)")
        elif rejects_condition(error):
            yield Finding(
                Verdict.FALLS_BACK,
                about,
                f"the server has no conditional writes ({code(error)}). {falls_back}, and reads it back. {only_one}",
            )
        else:
            yield Finding(Verdict.FAILS, about, f"the server answers a put with If-None-Match by: {error}")
    else:
        yield Finding(Verdict.FALLS_BACK, about, f"the server ignores If-None-Match. {falls_back}. {only_one}")


def _check_read_after_write(settings: Settings, store: S3Store) -> Iterator[Finding]:
    key, body = probe_key(settings), _probe_body()
    store.put(key, body)
    entry = next((entry for entry in _list(store, key) if entry["Key"] == key), None)
    if entry is None:
        yield Finding(Verdict.FALLS_BACK, "listing", f"{key} was put and is not listed at once: chunks are found late")
        return
    if bare_etag(entry["ETag"]):
        yield Finding(Verdict.WORKS, "ETags", "the listing has an ETag for each object")
    else:
        yield Finding(
            Verdict.FALLS_BACK,
            "ETags",
            "the listing has no ETags. Tallymark tells versions by size and time: a chunk that is replaced within a "
            "second by one of the same size is not noticed.",
        )
    if any(entry["Key"] == key for entry in _list(store, key, StartAfter=key)):
        yield Finding(
            Verdict.FALLS_BACK,
            "StartAfter",
            "the server ignores StartAfter. Each look for new chunks lists all of them.",
        )
    else:
        yield Finding(Verdict.WORKS, "StartAfter", "the listing begins behind a given key")
    try:
        listed = next(found for found in store.list(key) if found.key == key)
        is_current = store.get(listed) == body
    except ObjectChangedError:
        is_current = False
    if is_current:
        yield Finding(Verdict.WORKS, "get", f"{key} holds what was put a moment ago")
    else:
        yield Finding(
            Verdict.FAILS,
            "get",
            f"{key} holds something else than what was put a moment ago. Tallymark needs reads that see every write "
            "before them: turn off caches between here and the server.",
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
            "the server has another ETag for an object than for its entry in the listing. Tallymark lists the object "
            "again to see whether it changed.",
        )
    elif _get_answers(store, key, "0" * 32):
        yield Finding(Verdict.FALLS_BACK, "If-Match", "the server ignores If-Match. Tallymark compares ETags itself.")
    else:
        yield Finding(Verdict.WORKS, "If-Match", "an object that changed is not served for the one that was listed")


def _get_answers(store: S3Store, key: str, etag: str | None) -> bool:
    """Whether a GetObject gets an object; of which only the headers are read. False: it has another ETag."""
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
            yield Finding(Verdict.FAILS, "pages", "the listing says that there is more, and has no continuation token")
            return
        keys = [entry["Key"] for entry in first["Contents"]]
        keys += [entry["Key"] for entry in _list(store, prefix, MaxKeys=1, ContinuationToken=token)]
        if len(keys) != 2 or keys[0] == keys[1]:
            yield Finding(Verdict.FAILS, "pages", f"the second page of the listing of {prefix} repeats the first")
        elif keys != sorted(keys):
            yield Finding(
                Verdict.FALLS_BACK,
                "pages",
                "the listing is not in the order of the keys: with more than 1,000 chunks, a new one may wait for the "
                "next full listing (TALLYMARK_FULL_LISTING_SECONDS).",
            )
        else:
            yield Finding(Verdict.WORKS, "pages", "the listing goes on from page to page, in the order of the keys")
        return
    yield Finding(Verdict.NOT_CHECKED, "pages", "no prefix holds two objects yet; run this again when one does")


def _check_input(settings: Settings, store: S3Store) -> Iterator[Finding]:
    for prefix in (settings.transactions_prefix, settings.customers_prefix):
        listed = [entry for entry in _list(store, prefix, MaxKeys=100) if entry["Size"]]
        if not listed:
            yield Finding(Verdict.NOT_CHECKED, "input", f"{prefix or 'the bucket'} holds no object to read yet")
            continue
        key = listed[0]["Key"]
        try:
            _get_answers(store, key, None)
        except BucketError as error:
            yield Finding(Verdict.FAILS, "input", str(error))
        else:
            yield Finding(Verdict.WORKS, "input", f"{key} can be read")


class _Clock:
    """How far the server's clock is ahead of this machine's, in seconds, by the last answer."""

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
            return Finding(Verdict.NOT_CHECKED, "clock", "the server does not tell its time")
        off, way = abs(self._ahead), "ahead of" if self._ahead > 0 else "behind"
        if off < NOTICEABLE_SECONDS:
            return Finding(Verdict.WORKS, "clock", f"less than {NOTICEABLE_SECONDS} seconds off the server's")
        said = f"the server's clock is {off:.0f} seconds {way} this machine's"
        if off < REJECTED_SECONDS:
            return Finding(Verdict.FALLS_BACK, "clock", f"{said}: the lag is shown wrong by as much. Use NTP on both.")
        return Finding(Verdict.FAILS, "clock", f"{said}, and S3 rejects requests that are 15 minutes off. Use NTP.")
