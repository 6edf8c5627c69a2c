"""S3 outages: unreachable, slow, denying requests, or sending incomplete responses."""

import gzip
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pytest
from botocore.config import Config
from support import figures, servers
from support.faulty_s3 import Fault, FaultyS3, faulty_s3
from support.many_detections import make
from support.oracle import Row
from support.streams import HEADER, exported, write_chunk
from tallymark.intake import ledger, listing
from tallymark.intake.listing import waiting_chunks
from tallymark.local.replay import replay
from tallymark.pipeline import export
from tallymark.pipeline.build import build_models
from tallymark.pipeline.export import export_detections
from tallymark.pipeline.load import load_chunks
from tallymark.settings import PROJECT_ROOT, Settings
from tallymark.store import BucketError, StoredObject
from tallymark.store.s3 import S3_CONFIG, S3Store
from tallymark.warehouse.connection import connect
from tallymark.warehouse.ledger_index import LedgerIndex

THREE_ATTEMPTS = S3_CONFIG.merge(Config(read_timeout=600, retries={"mode": "standard", "total_max_attempts": 3}))
IMPATIENT = THREE_ATTEMPTS.merge(Config(read_timeout=1.5))
HANG = pytest.param("hang", marks=pytest.mark.system)
CHUNKS = r"GET /bucket/input/transactions/"
LISTING = r"GET /bucket\?"
SURVIVED: Counter[tuple[str, str]] = Counter()


@dataclass
class Bucket:
    """A bucket behind the proxy, and the folder with the server's files."""

    folder: Path
    proxy: FaultyS3
    store: S3Store
    server: servers.Served


@contextmanager
def behind_proxy(server: servers.Served, folder: Path, config: Config) -> Iterator[Bucket]:
    with faulty_s3(server.port) as proxy:
        client = server.client(url=proxy.url, config=config)
        yield Bucket(folder / "bucket", proxy, S3Store(client, "bucket", "my_s3"), server)


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[tuple[servers.Served, Path]]:
    folder = tmp_path_factory.mktemp("s3")
    (folder / "bucket").mkdir()
    with servers.rclone(folder) as server:
        yield server, folder


@pytest.fixture
def bucket(request, server) -> Iterator[Bucket]:
    """An empty bucket. Only system tests have a short read timeout."""
    config = IMPATIENT if request.node.get_closest_marker("system") else THREE_ATTEMPTS
    with behind_proxy(*server, config) as bucket:
        for stored in bucket.store.list(""):
            bucket.store.client.delete_object(Bucket="bucket", Key=stored.key)
        bucket.proxy.requests.clear()
        yield bucket


@pytest.fixture
def full_bucket(tmp_path) -> Iterator[Bucket]:
    """A bucket with the empty chunks 1 to 10,002, created before the server starts."""
    folder = tmp_path / "s3/bucket/input/transactions"
    folder.mkdir(parents=True)
    for number in range(1, 10_003):
        (folder / f"chunk_{number}").touch()
    with servers.rclone(tmp_path / "s3") as server, behind_proxy(server, tmp_path / "s3", THREE_ATTEMPTS) as bucket:
        yield bucket


@pytest.fixture(scope="module")
def new_warehouse(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("new") / "warehouse.duckdb"
    with connect(Settings(warehouse=path)):
        return path


@pytest.fixture
def settings(tmp_path, new_warehouse) -> Settings:
    shutil.copy(new_warehouse, tmp_path)
    return Settings(warehouse=tmp_path / "warehouse.duckdb", bucket="bucket", folder_settle_seconds=0)


@pytest.fixture(scope="module", autouse=True)
def page(request) -> Iterator[None]:
    yield
    figures.write(
        request.session,
        "outages",
        "# Outages survived\n\nWritten by `make outages`. A proxy between the pipeline and an S3 server injected the "
        f"faults below, {sum(SURVIVED.values())} in total. After each fault, the loaded rows and the written files "
        "were the same as in an undisturbed run.",
        ("fault", "request", "times"),
        [(kind.replace("_", " "), request, times) for (kind, request), times in sorted(SURVIVED.items())],
    )


def lines(first: int, last: int) -> str:
    return "".join(f"0,'C{n}','2','F','28007','M1','28007','es_food',4.55,0\n" for n in range(first, last))


def put_three_chunks(bucket: Bucket) -> list[str]:
    """Put 300 rows as three chunks (plain, gzip and a folder), and return their customers."""
    contents = {
        "chunk_1.csv": f"{HEADER}\n{lines(0, 100)}".encode(),
        "chunk_2.csv.gz": gzip.compress(f"{HEADER}\n{lines(100, 200)}".encode()),
        "chunk_3/part-00000.csv": f"{HEADER}\n{lines(200, 250)}".encode(),
        "chunk_3/part-00001.csv": f"{HEADER}\n{lines(250, 300)}".encode(),
        "chunk_3/_SUCCESS": b"",
    }
    for name, body in contents.items():
        bucket.store.client.put_object(Bucket="bucket", Key=f"input/transactions/{name}", Body=body)
    return [f"C{n}" for n in range(300)]


def customers(settings: Settings) -> list[str]:
    with connect(settings, read_only=True) as opened:
        rows = opened.execute("select customer from raw.transactions order by chunk_seq, line_number, customer")
        return [customer for (customer,) in rows.fetchall()]


def count(bucket: Bucket, request: str) -> None:
    SURVIVED.update((kind, request) for kind in bucket.proxy.done)


@pytest.mark.usefixtures("brief_pauses")
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("list", kind) for kind in ("error_500", "error_503", "reset", "cut")),
        *(("get", kind) for kind in ("error_500", "error_503", "reset", "cut", "shortened")),
        *(pytest.param(name, "hang", marks=pytest.mark.system) for name in ("list", "get")),
    ],
)
def test_brief_outage_while_loading(bucket, settings, name, kind):
    """Two faults in a row are detected and retried within the call."""
    expected = put_three_chunks(bucket)
    bucket.proxy.faults = [Fault(kind, {"list": LISTING, "get": CHUNKS}[name], times=2)]
    assert load_chunks(settings, bucket.store)["chunks_accepted"] == 3
    assert bucket.proxy.done == [kind, kind]
    assert sorted(customers(settings)) == sorted(expected)
    count(bucket, name)


@pytest.mark.usefixtures("brief_pauses")
@pytest.mark.parametrize("kind", ["error_500", "error_503", "reset", HANG, "cut", "shortened", "truncated_listing"])
def test_lasting_outage_while_loading(bucket, settings, kind):
    """After the first chunk, no object can be read. The load fails, adds nothing, and takes the chunks later."""
    expected = put_three_chunks(bucket)
    if kind == "truncated_listing":
        bucket.proxy.faults = [Fault(kind, LISTING + ".*transactions")]
    else:
        load_chunks(settings, bucket.store, max_chunks=1)
        bucket.proxy.faults = [Fault(kind, CHUNKS)]
    with pytest.raises(BucketError) as raised:
        load_chunks(settings, bucket.store)
    for named in ("bucket bucket", bucket.proxy.url, "my_s3"):
        assert named in str(raised.value)
    assert "The next run continues where this one stopped" in str(raised.value)
    assert bucket.server.secret not in str(raised.value)
    if kind != "truncated_listing":
        assert sorted(customers(settings)) == sorted(expected[:100])
    bucket.proxy.faults = []
    assert load_chunks(settings, bucket.store)["chunks_accepted"] == (3 if kind == "truncated_listing" else 2)
    assert sorted(customers(settings)) == sorted(expected)
    count(bucket, "list" if kind == "truncated_listing" else "get")


def test_denied_chunks(bucket, settings, monkeypatch):
    """If S3 denies all chunks, the run fails and names the connection. If it denies one, only that chunk waits."""
    monkeypatch.setattr(ledger, "FIRST_RETRY_SECONDS", 0)
    expected = put_three_chunks(bucket)
    bucket.proxy.faults = [Fault("denied_403", CHUNKS)]
    with pytest.raises(BucketError, match="Check the Airflow connection my_s3") as raised:
        load_chunks(settings, bucket.store)
    for named in ("bucket bucket", bucket.proxy.url, "my_s3"):
        assert named in str(raised.value)
    bucket.proxy.faults = [Fault("denied_403", CHUNKS + "chunk_2")]
    assert load_chunks(settings, bucket.store)["chunks_accepted"] == 2
    bucket.proxy.faults = []
    assert load_chunks(settings, bucket.store)["chunks_accepted"] == 1
    assert sorted(customers(settings)) == sorted(expected)
    count(bucket, "get")


def test_listing_without_some_chunks(bucket, settings):
    """Chunks missing from a listing are loaded later, and not lost."""
    for number in range(6):
        body = f"{HEADER}\n{lines(number * 10, number * 10 + 10)}".encode()
        bucket.store.client.put_object(Bucket="bucket", Key=f"input/transactions/chunk_{number}", Body=body)
    bucket.proxy.faults = [Fault("lacks_objects", LISTING + ".*transactions", times=2)]
    assert [load_chunks(settings, bucket.store)["chunks_accepted"] for _ in range(3)] == [3, 3, 0]
    assert len(customers(settings)) == len(set(customers(settings))) == 60
    count(bucket, "list")


def test_listing_without_some_parts_of_a_folder(bucket, settings):
    """It looks the same as a complete folder, and becomes a conflict once the missing part is listed."""
    put_three_chunks(bucket)
    for name in ("chunk_1.csv", "chunk_2.csv.gz"):
        bucket.store.client.delete_object(Bucket="bucket", Key=f"input/transactions/{name}")
    bucket.proxy.faults = [Fault("lacks_objects", LISTING + ".*transactions", times=1)]
    bucket.store.client.put_object(Bucket="bucket", Key="input/transactions/chunk_3/part-00002.csv", Body=b"")
    loaded = load_chunks(settings, bucket.store)
    assert (loaded["rows_accepted"], loaded["chunks_in_conflict"]) == (50, 1)
    assert len(customers(settings)) == 50


@pytest.mark.usefixtures("brief_pauses")
@pytest.mark.parametrize("kind", ["error_500", "error_503", "reset", "reset_when_done", HANG])
@pytest.mark.parametrize("request_pattern", ["PUT .*00000002", "GET .*00000002"], ids=["put", "look"])
def test_outage_while_exporting(bucket, settings, kind, request_pattern):
    """After a brief and a lasting outage, each file is written exactly once, with the same content as without them."""
    make(settings, 60)
    bucket.proxy.faults = [Fault(kind, request_pattern, times=2)]
    assert export.export_detections(settings, bucket.store)["files"] == 2
    make(settings, 51, chunk_seq=2)
    pattern = request_pattern.replace("2", "4")
    bucket.proxy.faults = [Fault(kind, pattern)]
    with pytest.raises(BucketError, match=r"put output/detections/detections-00000004\.csv"):
        export.export_detections(settings, bucket.store)
    bucket.proxy.faults = []
    make(settings, 1, chunk_seq=3)
    export.export_detections(settings, bucket.store)
    found = [row[2] for row in exported(bucket.folder)]
    assert found == [f"C{n}" for count in (60, 51, 1) for n in range(1, count + 1)]
    count(bucket, request_pattern.partition(" ")[0].lower())


@pytest.mark.system
@pytest.mark.parametrize("seed", range(10 if figures.WANTED else 1))
def test_one_response_in_three_fails(bucket, settings, tmp_path, seed):
    """Load, build and export, each repeated until it succeeds, give the same files as an undisturbed replay."""
    chance = random.Random(seed)
    data = tmp_path / "data"
    stream = [[Row(f"C{chance.randrange(40)}", "M", "F", "5") for _ in range(50)] for _ in range(8)]
    for number, rows in enumerate(stream):
        write_chunk(data, f"chunk_{number}", rows)
    variables = {"child_min_transactions": 2}
    replay(data, tmp_path / "undisturbed", batch=2, vars=variables)
    kinds = ("error_500", "error_503", "reset", "cut", "shortened", "reset_when_done")
    for path in sorted((data / "input/transactions").iterdir()):
        bucket.store.client.put_object(Bucket="bucket", Key=f"input/transactions/{path.name}", Body=path.read_bytes())
    choices = random.Random(f"faults {seed}")
    bucket.proxy.choose = lambda request: choices.choice(kinds) if choices.random() < 0.33 else None
    disturbed = settings.model_copy(update={"vars": variables})
    for _ in range(4):
        for step in (
            lambda: load_chunks(disturbed, bucket.store, max_chunks=2),
            lambda: build_models(disturbed),
            lambda: export_detections(disturbed, bucket.store),
        ):
            for _ in range(50):
                try:
                    step()
                    break
                except BucketError:
                    continue
    bucket.proxy.choose = None
    assert bucket.proxy.done
    assert exported(bucket.folder) == exported(tmp_path / "undisturbed") != []
    count(bucket, "any")


SENSOR = """
import json, sys
from pathlib import Path
from airflow.dag_processing.dagbag import DagBag
from tallymark.on_airflow.bucket import BucketHook
bag = DagBag(sys.argv[1])
sensor = bag.dags["detect_patterns"].task_dict["wait_for_chunk"]
says = {
    "waits": [
        [config.connect_timeout, config.read_timeout, config.retries["total_max_attempts"]]
        for config in (sensor.hook.config, BucketHook("aws_default").config)
    ]
}
try:
    sensor.execute({})
    says["ends"] = "success"
except Exception as error:
    says["ends"] = f"{type(error).__name__}: {error}"
print("SAYS", json.dumps(says))
"""


def sensor_says(bucket: Bucket, tmp_path: Path, **config: float) -> dict:
    """Run wait_for_chunk in its own process; return its result and the timeouts of its client."""
    connection = {
        "conn_type": "aws",
        "login": bucket.server.key,
        "password": bucket.server.secret,
        "extra": {"endpoint_url": bucket.proxy.url, "region_name": "us-east-1", "config_kwargs": config},
    }
    environment = os.environ | {
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(connection),
        "PYTHONPATH": str(PROJECT_ROOT / "plugins"),
        "TALLYMARK_BUCKET": "bucket",
        "TALLYMARK_WAREHOUSE": str(tmp_path / "warehouse.duckdb"),
    }
    arguments = [sys.executable, "-c", SENSOR, str(PROJECT_ROOT / "dags")]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=600)
    found = [line for line in done.stdout.splitlines() if line.startswith("SAYS ")]
    assert found, done.stderr
    return json.loads(found[0].removeprefix("SAYS "))


@pytest.mark.system
def test_sensor_fails_when_denied(bucket, tmp_path):
    """It does not skip the run, which would look like a minute without a chunk."""
    bucket.proxy.faults = [Fault("denied_403")]
    says = sensor_says(bucket, tmp_path)
    assert says["waits"] == [[5, 10, 3], [5, 20, 4]]
    assert says["ends"].startswith("BucketError: Could not list input/transactions/")
    assert "the Airflow connection aws_default" in says["ends"]


def test_sensor_accepts_a_listing_without_etags(bucket, tmp_path):
    """It does not request objects to get their ETags, which could differ from those that the load sees."""
    put_three_chunks(bucket)
    bucket.proxy.faults = [Fault("no_etag", LISTING)]
    assert sensor_says(bucket, tmp_path)["ends"] == "success"
    assert not [request for request in bucket.proxy.requests if request.startswith("HEAD")]


@pytest.mark.system
def test_sensor_supports_requester_pays(bucket, tmp_path, monkeypatch):
    put_three_chunks(bucket)
    bucket.proxy.faults = [Fault("wants_payer", LISTING)]
    assert "AccessDenied" in sensor_says(bucket, tmp_path)["ends"]
    monkeypatch.setenv("TALLYMARK_REQUESTER_PAYS", "true")
    assert sensor_says(bucket, tmp_path)["ends"] == "success"


@pytest.mark.system
def test_sensor_fails_when_s3_hangs(bucket, tmp_path):
    """Timeouts in the Airflow connection take precedence."""
    bucket.proxy.faults = [Fault("hang")]
    says = sensor_says(bucket, tmp_path, read_timeout=0.3)
    assert [waits[:2] for waits in says["waits"]] == [[5, 0.3]] * 2
    assert says["ends"].startswith("BucketError") and "S3 is unreachable" in says["ends"]


def test_sensor_finds_a_chunk_after_an_outage(bucket, tmp_path):
    put_three_chunks(bucket)
    bucket.proxy.faults = [Fault("error_503", LISTING, times=2)]
    assert sensor_says(bucket, tmp_path)["ends"] == "success"
    assert bucket.proxy.done == ["error_503"] * 2


@pytest.mark.system
def test_poke_with_many_chunks_lists_twice(full_bucket, tmp_path):
    """One listing starts after the last loaded chunk, the other covers numbers with one more digit."""
    settings = Settings(warehouse=tmp_path / "warehouse.duckdb")
    settings.warehouse.touch()
    index = LedgerIndex(settings.warehouse, settings.limits)
    etag = hashlib.md5(b"").hexdigest()
    seen = [(f"input/transactions/chunk_{number}", etag) for number in range(1, 10_003)]

    def take(taken: int) -> None:
        index.create(seen[:taken], taken_at=0)
        index.confirm()
        index.note_full_listing()
        full_bucket.proxy.requests.clear()

    def listings_when(taken: int) -> list[str]:
        take(taken)
        waiting = waiting_chunks(
            settings,
            chain.from_iterable(
                map(listed, listing.places(index, settings.transactions_prefix, settings.full_listing_seconds))
            ),
        )
        assert [chunk.key for chunk in waiting] == [key for key, *_ in seen[taken:]]
        return [request for request in full_bucket.proxy.requests if re.search(LISTING, request)]

    def listed(place: listing.Place) -> Iterator[StoredObject]:
        return full_bucket.store.list(place.prefix, place.after, place.is_passed)

    assert len(listings_when(taken=10_002)) == 2
    assert len(listings_when(taken=10_000)) == 2
    take(10_000)
    assert sensor_says(full_bucket, tmp_path)["ends"] == "success"
    assert len([request for request in full_bucket.proxy.requests if re.search(LISTING, request)]) == 2
