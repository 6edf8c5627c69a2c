"""Least privilege in the bucket, and no SQL built from data."""

import ast
import copy
import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import servers
from support.many_detections import make
from support.streams import HEADER
from tallymark.audit import audit
from tallymark.doctor import Verdict
from tallymark.doctor.bucket import check_bucket
from tallymark.local import feed
from tallymark.pipeline import export
from tallymark.pipeline.load import load_chunks
from tallymark.settings import PROJECT_ROOT, Settings
from tallymark.store import BucketError
from tallymark.store.s3 import S3Store

BUCKET = "customer-transactions-detection"
POLICIES = {
    name: json.loads((PROJECT_ROOT / f"docs/policies/mechanism-{name}.json").read_text()) for name in ("x", "y")
}


class Iam:
    """A moto server that enforces IAM policies."""

    def __init__(self, server: servers.Served):
        self.server = server

    def enforce(self, enabled: bool) -> None:
        body = b"0" if enabled else b"1000000"
        headers = {"Content-Type": "text/plain"}
        request = urllib.request.Request(f"{self.server.url}/moto-api/reset-auth", body, headers)
        urllib.request.urlopen(request, timeout=600).close()

    def store(self, policy: dict) -> S3Store:
        """Return an empty bucket, for a user with this policy only."""
        self.enforce(False)
        s3, iam = self.server.client("s3"), self.server.client("iam")
        s3.create_bucket(Bucket=BUCKET)
        for entry in s3.list_objects_v2(Bucket=BUCKET).get("Contents", []):
            s3.delete_object(Bucket=BUCKET, Key=entry["Key"])
        s3.put_object(Bucket=BUCKET, Key="elsewhere/secret", Body=b"1")
        name = f"user{time.monotonic_ns()}"
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName="given", PolicyDocument=json.dumps(policy))
        keys = iam.create_access_key(UserName=name)["AccessKey"]
        user = servers.Served(self.server.port, keys["AccessKeyId"], keys["SecretAccessKey"])
        return S3Store(user.client(), BUCKET, "aws_default")


@pytest.fixture(scope="module")
def iam(tmp_path_factory) -> Iterator[Iam]:
    with servers.moto(tmp_path_factory.mktemp("iam")) as server:
        yield Iam(server)


def run_x(iam: Iam, policy: dict, tmp_path: Path) -> S3Store:
    source = tmp_path / "transactions.csv"
    source.write_text(f"{HEADER}\n" + "0,'C1','2','F','28007','M1','28007','es_food',4.55,0\n" * 3)
    (tmp_path / "customer_importance.csv").write_text("Source,Target,Weight,typeTrans,fraud\n'C1','M1',1,'x',0\n")
    store = iam.store(policy)
    iam.enforce(True)
    settings = Settings(feed_chunk_rows=2, feed_interval_seconds=0)
    assert feed.feed_transactions(source, settings, store) == 2
    return store


def run_y(iam: Iam, policy: dict, tmp_path: Path) -> S3Store:
    store = iam.store(policy)
    s3 = iam.server.client()
    row = "0,'C1','2','F','28007','M1','28007','es_food',4.55,0\n"
    s3.put_object(Bucket=BUCKET, Key="input/transactions/chunk_1", Body=f"{HEADER}\n{row}bad\n".encode())
    s3.put_object(Bucket=BUCKET, Key="input/customers/all.csv", Body=b"Source,Target,Weight\nC1,M1,1\n")
    iam.enforce(True)
    settings = Settings(warehouse=tmp_path / "warehouse.duckdb")
    assert load_chunks(settings, store)["rows_rejected"] == 1
    make(settings, 51)
    assert export.export_detections(settings, store)["files"] == 2
    # A file of rejected rows, a manifest, and the pointer to the last manifest.
    assert audit(settings, store) | {"tests": 0} == {"tests": 0, "detection_files": 2, "other_files": 3}
    return store


def test_feed_works_with_its_policy(iam, tmp_path):
    store = run_x(iam, POLICIES["x"], tmp_path)
    denied = {
        "read output": lambda: store.client.get_object(Bucket=BUCKET, Key="output/detections/x"),
        "write output": lambda: store.client.put_object(Bucket=BUCKET, Key="output/detections/x", Body=b""),
    }
    must_be_denied(store, "input/transactions/chunk_1", denied)


def test_pipeline_works_with_its_policy(iam, tmp_path):
    store = run_y(iam, POLICIES["y"], tmp_path)
    denied = {
        "write a chunk": lambda: store.client.put_object(Bucket=BUCKET, Key="input/transactions/chunk_2", Body=b""),
        "write importance": lambda: store.client.put_object(Bucket=BUCKET, Key="input/customers/x", Body=b""),
    }
    must_be_denied(store, "output/detections/detections-00000001.csv", denied)


def test_doctor_works_with_the_pipeline_policy(iam):
    store = iam.store(POLICIES["y"])
    iam.server.client().put_object(Bucket=BUCKET, Key="input/transactions/chunk_1", Body=b"1")
    iam.enforce(True)
    assert [found for found in check_bucket(Settings(), store) if found.verdict == Verdict.FAILS] == []


def must_be_denied(store: S3Store, own: str, more: dict[str, Callable]) -> None:
    always = {
        "delete": lambda: store.client.delete_object(Bucket=BUCKET, Key=own),
        "read elsewhere": lambda: store.client.get_object(Bucket=BUCKET, Key="elsewhere/secret"),
        "write elsewhere": lambda: store.client.put_object(Bucket=BUCKET, Key="elsewhere/secret", Body=b""),
        "settings": lambda: store.client.get_bucket_policy(Bucket=BUCKET),
        "another bucket": lambda: store.client.create_bucket(Bucket="another"),
    }
    for name, action in {**always, **more}.items():
        with pytest.raises(store.client.exceptions.ClientError) as raised:
            action()
        assert raised.value.response["Error"]["Code"] == "AccessDenied", name


def parts(policy: dict) -> Iterator[tuple[str, dict]]:
    """Yield the policy without one of its actions or resources, for each of them."""
    for number, statement in enumerate(policy["Statement"]):
        for kind in ("Action", "Resource"):
            values = statement[kind] if isinstance(statement[kind], list) else [statement[kind]]
            for value in values:
                less = copy.deepcopy(policy)
                less["Statement"][number][kind] = [other for other in values if other != value] or ["nothing:Nothing"]
                if less["Statement"][number]["Resource"] == ["nothing:Nothing"]:
                    del less["Statement"][number]
                yield f"{statement['Sid']} {value}", less


@pytest.mark.parametrize(
    ("run", "policy"),
    [
        pytest.param(run, less, id=f"{name} without {part}")
        for name, run in {"x": run_x, "y": run_y}.items()
        for part, less in parts(POLICIES[name])
    ],
)
def test_every_part_of_a_policy_is_needed(iam, tmp_path, run, policy):
    with pytest.raises(BucketError, match="Check the Airflow connection aws_default"):
        run(iam, policy, tmp_path)


def test_no_sql_is_built_from_data():
    """The argument of execute() and sql() is a constant, or a file or macro of the project."""
    found, calls = [], 0
    for path in sorted((PROJECT_ROOT / "plugins").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                continue
            if node.func.attr in ("execute", "executemany", "sql", "query"):
                calls += 1
                built = [part for part in ast.walk(node.args[0]) if isinstance(part, ast.JoinedStr | ast.BinOp)]
                read = [part for part in built if ".sql" not in ast.unparse(part)]
                formatted = ".format(" in ast.unparse(node.args[0])
                if read or formatted:
                    found.append(f"{path.name}:{node.lineno} {ast.unparse(node.args[0])[:80]}")
    assert calls >= 20
    assert found == []
