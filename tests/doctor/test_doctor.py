"""The doctor reports what works, what needs a fallback, and what fails and how to fix it."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from botocore.config import Config
from support import servers
from support.oracle import Row
from support.streams import write_chunk
from tallymark.audit import audit
from tallymark.doctor import Finding, Verdict, warehouse
from tallymark.doctor.bucket import check_bucket, probe_key
from tallymark.doctor.warehouse import check_warehouse
from tallymark.local.replay import replay
from tallymark.recovery.rebuild import rebuild
from tallymark.recovery.verify import verify
from tallymark.settings import PROJECT_ROOT, Settings
from tallymark.store.folder import FolderStore
from tallymark.store.s3 import S3_CONFIG, S3Store

CHUNK = "input/transactions/chunk_1"
PROBE = "output/doctor.txt"
LISTING = r"\?list-type"


def findings(bucket, **settings) -> list[Finding]:
    store = replace(
        bucket.store,
        server_side_encryption=settings.get("server_side_encryption", ""),
        requester_pays=settings.get("requester_pays", False),
    )
    return list(check_bucket(Settings(bucket=bucket.store.bucket, **settings), store))


def verdicts(found: list[Finding]) -> dict[str, Verdict]:
    return {finding.about: finding.verdict for finding in found if finding.verdict != Verdict.WORKS}


def text(found: list[Finding], about: str) -> str:
    return next(f"{finding.verdict}: {finding.text}" for finding in found if finding.about == about)


def test_bucket_on_s3(bucket):
    """Everything works. Checks that need objects are skipped in an empty bucket."""
    found = findings(bucket)
    assert verdicts(found) == {"pages": Verdict.NOT_CHECKED, "input": Verdict.NOT_CHECKED}
    for key in (CHUNK, "input/transactions/chunk_2", "input/customers/all.csv"):
        bucket.put(key, b"1")
    found = findings(bucket)
    assert verdicts(found) == {}
    assert {finding.text for finding in found if finding.about == "input"} == {
        f"{CHUNK} can be read",
        "input/customers/all.csv can be read",
    }


def test_only_the_probe_is_written(bucket):
    bucket.put(CHUNK, b"1")
    findings(bucket)
    assert [stored.key for stored in bucket.direct.list("")] == [CHUNK, PROBE]
    assert {request.split("?")[0] for request in bucket.asked("PUT")} == {f"PUT /{bucket.store.bucket}/{PROBE}"}
    assert not bucket.asked("DELETE")
    assert b"Written by tallymark doctor" in bucket.has(PROBE)
    assert probe_key(Settings(output_prefix="out")) == "out/doctor.txt"


FALLS_BACK = {
    "no_conditional_put": ("PUT", "put new", "the server does not support conditional writes (NotImplemented)"),
    "no_conditional_put_400": ("PUT", "put new", "the server does not support conditional writes (InvalidArgument)"),
    "ignores_if_none_match": ("PUT", "put new", "the server ignores If-None-Match"),
    "ignores_if_match": ("GET", "If-Match", "the server ignores If-Match"),
    "other_etag": (f"GET .*{PROBE}", "If-Match", "the server's GET response and its listing have different ETags"),
    "no_etag": ("GET", "ETags", "the listing has no ETags. Tallymark tells versions apart by size and time"),
    "ignores_start_after": (LISTING, "StartAfter", "Each search for new chunks lists all chunks"),
}


@pytest.mark.parametrize("manner", FALLS_BACK)
def test_fallbacks(bucket, manner):
    requests, about, says = FALLS_BACK[manner]
    bucket.behaves(manner, requests=requests)
    found = findings(bucket)
    assert not [finding for finding in found if finding.verdict == Verdict.FAILS]
    assert text(found, about).startswith("falls back: ")
    assert says in text(found, about)


FAILS = {
    "no_size": (LISTING, "listing", "the listing has no Size"),
    "no_time": (LISTING, "listing", "the listing has no LastModified"),
    "html": (LISTING, "listing", "the response is not a listing"),
    "answer_403_AccessDenied": (LISTING, "listing", "my_s3, and that it has the permissions in docs"),
    "answer_404_NoSuchBucket": (LISTING, "listing", "Create the bucket, or set TALLYMARK_BUCKET to another one"),
    "answer_500_InternalError": (LISTING, "listing", "S3 is unreachable"),
    "answer_403_RequestTimeTooSkewed": (LISTING, "listing", "Set the clock of this machine, with NTP"),
    "answer_400_InvalidDigest": ("PUT", "put", "Could not put output/doctor.txt"),
    "forgets_put": (f"PUT .*{PROBE}", "get", "off caches between this machine and the server"),
    "wants_aes256": ("PUT", "put", "Set TALLYMARK_SERVER_SIDE_ENCRYPTION=AES256, which the bucket accepts."),
    "wants_kms": ("PUT", "put", "Set TALLYMARK_SERVER_SIDE_ENCRYPTION=aws:kms, which the bucket accepts."),
    "wants_payer": (".*", "listing", "This is a requester-pays bucket: set TALLYMARK_REQUESTER_PAYS=true."),
    "same_token": (LISTING, "pages", "the second page of the listing of input/transactions/ repeats the first"),
    "slow_clock": (".*", "clock", " seconds behind this machine's, and S3 rejects requests"),
}


@pytest.mark.parametrize("manner", FAILS)
def test_failures(bucket, manner):
    requests, about, says = FAILS[manner]
    bucket.put(CHUNK, b"1")
    if manner == "forgets_put":
        bucket.put(PROBE, b"an older probe")
    bucket.behaves(manner, requests=requests)
    found = findings(bucket)
    assert found[-1].about == "clock"
    assert verdicts(found)[about] == Verdict.FAILS
    assert says in next(finding.text for finding in found if finding.verdict == Verdict.FAILS)


@pytest.mark.parametrize(
    ("manner", "settings"),
    [
        ("wants_aes256", {"server_side_encryption": "AES256"}),
        ("wants_kms", {"server_side_encryption": "aws:kms"}),
        ("wants_payer", {"requester_pays": True}),
    ],
)
def test_suggested_settings_fix_the_failure(bucket, manner, settings):
    bucket.put(CHUNK, b"1")
    bucket.behaves(manner, requests=".*" if manner == "wants_payer" else "PUT")
    found = findings(bucket, **settings)
    assert not [finding for finding in found if finding.verdict == Verdict.FAILS]
    assert settings.get("server_side_encryption", "") in text(found, "put")


def test_wrong_encryption_gets_a_suggestion(bucket):
    bucket.behaves("wants_kms", requests="PUT")
    says = text(findings(bucket, server_side_encryption="AES256"), "put")
    assert says.endswith(" Set TALLYMARK_SERVER_SIDE_ENCRYPTION=aws:kms, which the bucket accepts.")


def test_connection_with_checksums(bucket, moto):
    config = S3_CONFIG.merge(Config(request_checksum_calculation="when_supported"))
    bucket.store = S3Store(moto.client(url=bucket.proxy.url, config=config), bucket.store.bucket)
    assert "checksum headers (request_checksum_calculation in the connection)" in text(findings(bucket), "put")
    bucket.behaves("no_checksums", requests="PUT")
    assert 'or set it to "when_required".' in text(findings(bucket), "put")


def test_denied_input_is_named(bucket):
    bucket.put(CHUNK, b"1")
    bucket.behaves("answer_403_AccessDenied", requests=f"GET .*{CHUNK}")
    assert text(findings(bucket), "input").startswith(f"FAILS: Could not get {CHUNK} in bucket")


def test_directory_bucket_fails(bucket):
    [found, *_] = check_bucket(Settings(bucket="mine--use1-az1--x-s3"), bucket.store)
    assert found.verdict == Verdict.FAILS
    assert "directory bucket" in found.text


def test_probe_has_no_side_effects(tmp_path):
    """The probe does not affect verify, audit, rebuild and load."""
    for number in range(2):
        write_chunk(tmp_path / "data", f"chunk_{number}", [Row("C", "M", "F", "1")] * 90)
    replay(tmp_path / "data", tmp_path / "out")
    settings = Settings(warehouse=tmp_path / "out/warehouse.duckdb")
    probe = tmp_path / "out" / probe_key(settings)
    probe.write_text("Written by tallymark doctor")
    store = FolderStore(tmp_path / "data", target=tmp_path / "out")
    before = verify(store, settings.output_prefix), audit(settings, store)
    settings.warehouse.unlink()
    rebuild(settings, store)
    assert (verify(store, settings.output_prefix), audit(settings, store)) == before
    write_chunk(tmp_path / "data", "chunk_2", [Row("D", "M", "F", "1")] * 90)
    assert replay(tmp_path / "data", tmp_path / "out")["files"] == 1
    assert probe.read_text() == "Written by tallymark doctor"


def test_warehouse_folder(tmp_path):
    found = list(check_warehouse(Settings(warehouse=tmp_path / "not/yet/warehouse.duckdb")))
    assert [finding.about for finding in found] == ["warehouse", "disk space", "file system"]
    assert found[0].verdict == Verdict.WORKS
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    says = text(list(check_warehouse(Settings(warehouse=tmp_path / "file/warehouse.duckdb"))), "warehouse")
    assert says.startswith("FAILS: ") and "is not writable (Not a directory). Set TALLYMARK_WAREHOUSE" in says


def test_low_disk_space_fails(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=2**30)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    found = list(check_warehouse(Settings(warehouse=tmp_path / "warehouse.duckdb")))
    assert text(found, "disk space").startswith("FAILS: 1.0 GiB free")


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [("ext4", "works"), ("nfs4", "FAILS"), ("fuse.s3fs", "FAILS"), ("fuse.sshfs", "FAILS"), ("tmpfs", "works")],
)
def test_network_file_system_fails(tmp_path, monkeypatch, kind, verdict):
    mounts = tmp_path / "mounts"
    place = tmp_path / "a disk"
    place.mkdir()
    escaped = str(place).replace(" ", r"\040")
    mounts.write_text(f"/dev/sda1 / xfs rw 0 0\nwhere {escaped} {kind} rw 0 0\n/dev/sdb1 {escaped}ette nfs rw 0 0\n")
    monkeypatch.setattr(warehouse, "MOUNTS", mounts)
    found = list(check_warehouse(Settings(warehouse=place / "warehouse.duckdb")))
    assert text(found, "file system").startswith(f"{verdict}: {place} is on")
    mounts.unlink()
    found = list(check_warehouse(Settings(warehouse=place / "warehouse.duckdb")))
    assert text(found, "file system").startswith("not checked")


@pytest.fixture(scope="module")
def rclone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rclone")
    (folder / "mine").mkdir()
    with servers.rclone(folder) as server:
        yield server


def doctor(tmp_path: Path, connection: dict | str | None, **settings: str) -> tuple[int, list[str]]:
    """Run ``python -m tallymark doctor``; return its exit code and lines."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TALLYMARK_"))}
    given = {f"TALLYMARK_{name.upper()}": value for name, value in settings.items()}
    environment = (
        kept
        | given
        | {
            "AIRFLOW_HOME": str(tmp_path / "airflow"),
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "PYTHONPATH": str(PROJECT_ROOT / "plugins"),
            "TALLYMARK_WAREHOUSE": str(tmp_path / "warehouse.duckdb"),
        }
    )
    if connection:
        as_text = connection if isinstance(connection, str) else json.dumps(connection)
        environment["AIRFLOW_CONN_AWS_DEFAULT"] = as_text
    command = [sys.executable, "-m", "tallymark", "doctor"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout.splitlines()


def connection(server: servers.Served, **changed) -> dict:
    extra = {"endpoint_url": server.url, "region_name": "us-east-1"}
    return {"conn_type": "aws", "login": server.key, "password": server.secret, "extra": extra} | changed


def test_command_prints_a_line_per_check(rclone, tmp_path):
    code, lines = doctor(tmp_path, connection(rclone), bucket="s3://mine/")
    assert (code == 1) == any(line.startswith("FAILS") for line in lines)
    # Disk space and file system depend on the machine that runs the tests.
    assert [line[:26].rstrip() for line in lines[:-1] if "disk space" not in line and "file system" not in line] == [
        "works        settings",
        "works        warehouse",
        "works        connection",
        "works        listing",
        "works        put",
        "falls back   put new",
        "works        ETags",
        "works        StartAfter",
        "works        get",
        "falls back   If-Match",
        "not checked  pages",
        "not checked  input",
        "not checked  input",
        "works        clock",
    ]
    assert " working, 2 falling back, " in lines[-1]
    assert rclone.secret not in "\n".join(lines)


def test_command_fails_with_wrong_keys(rclone, tmp_path):
    code, lines = doctor(tmp_path, connection(rclone, password="wrong"), bucket="mine")
    assert code == 1
    [failure] = [line for line in lines if line.startswith("FAILS")]
    assert "SignatureDoesNotMatch" in failure and "Check the Airflow connection aws_default" in failure


@pytest.mark.parametrize(
    ("given", "verdict", "says"),
    [
        (None, "falls back   connection", "there is no Airflow connection aws_default"),
        ("{not json", "FAILS        connection", "AIRFLOW_CONN_AWS_DEFAULT is not a valid Airflow connection"),
        (
            {"conn_type": "aws", "extra": {"endpoint_url": "nowhere"}},
            "FAILS        connection",
            "the Airflow connection aws_default cannot be used (ValueError: Invalid endpoint: nowhere)",
        ),
    ],
)
def test_command_explains_invalid_connection(tmp_path, given, verdict, says):
    code, lines = doctor(tmp_path, given, bucket="mine")
    assert code == 1
    [line] = [line for line in lines if line.startswith(verdict)]
    assert says in line


def test_command_explains_invalid_settings(tmp_path):
    code, lines = doctor(tmp_path, None, bucket="'mine'", output_prefix="s3://mine/output")
    assert code == 1
    assert lines[0].startswith("FAILS        settings     TALLYMARK_BUCKET is \"'mine'\": it must be a bucket ")
    assert lines[1].startswith("FAILS        settings     TALLYMARK_OUTPUT_PREFIX is 's3://mine/output': it must be a")
    assert lines[2] == "0 working, 0 falling back, 2 failing, 0 not checked"
