"""Good and bad chunks, and a folder store that denies objects as S3 does."""

import gzip
from pathlib import Path
from types import SimpleNamespace

import yaml
from botocore.exceptions import ClientError
from support.streams import HEADER
from tallymark.settings import Settings
from tallymark.store.folder import FolderStore
from tallymark.store.s3 import S3Store
from tallymark.warehouse.connection import connect

CASES = yaml.safe_load((Path(__file__).parent / "bad_input.yaml").read_text())
GOOD = f"{HEADER}\n0,'C1','2','F','28007','M1','28007','es_food',4.55,0\n"


def put(bucket: FolderStore, name: str, content: str | bytes, folder: str = "input/transactions") -> None:
    path = bucket.root / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def query(settings: Settings, sql: str) -> list[tuple]:
    with connect(settings, read_only=True) as warehouse:
        return warehouse.execute(sql).fetchall()


class DenyingStore(FolderStore):
    """A folder store that denies some objects as S3 does.

    ``codes`` maps keys to error codes; the key "" stands for all objects.
    """

    def get(self, stored):
        code = self.codes.get(stored.key) or self.codes.get("")
        return S3Store(DenyingClient(code), "bucket").get(stored) if code else super().get(stored)


class DenyingClient:
    meta = SimpleNamespace(endpoint_url="http://s3", events=SimpleNamespace(register=lambda *_, **__: None))

    def __init__(self, code: str):
        self.code = code

    def get_object(self, **_):
        answer = {"Error": {"Code": self.code}, "ResponseMetadata": {"HTTPStatusCode": 403}}
        raise ClientError(answer, "GetObject")


FIRST = "input/transactions/chunk_1"


def body_of(case: dict) -> bytes:
    """Return the bytes of a case of bad_input.yaml, whose comment describes the fields."""
    body = case["file"] if "file" in case else f"{HEADER}\n{case.get('text', '')}"
    body = body.encode(case.get("encoding", "utf-8"))
    body += bytes.fromhex(case.get("bytes", ""))
    if "repeat" in case:
        body += case["repeat"]["text"].encode() * case["repeat"]["times"]
    for _ in range({True: 1, "twice": 2}.get(case.get("gzip"), 0)):
        body = gzip.compress(body)
    return body[: case.get("cut")] + bytes.fromhex(case.get("bytes_after", ""))
