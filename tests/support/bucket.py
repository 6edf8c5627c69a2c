"""A bucket behind a proxy that can imitate other S3 servers."""

import itertools
from dataclasses import dataclass

from support.faulty_s3 import Fault, FaultyS3
from tallymark.store import StoredObject
from tallymark.store.s3 import S3Store

names = (f"bucket{number}" for number in itertools.count())


@dataclass
class Bucket:
    """A bucket on a server that follows the S3 protocol, and the proxy through which the store sees it."""

    direct: S3Store
    store: S3Store
    proxy: FaultyS3

    def put(self, key: str, body: bytes, **headers: str) -> None:
        self.direct.client.put_object(Bucket=self.direct.bucket, Key=key, Body=body, **headers)

    def delete(self, key: str) -> None:
        self.direct.client.delete_object(Bucket=self.direct.bucket, Key=key)

    def has(self, key: str) -> bytes:
        return self.direct.client.get_object(Bucket=self.direct.bucket, Key=key)["Body"].read()

    def behaves(self, *kinds: str, requests: str = ".*") -> None:
        self.proxy.faults = [Fault(kind, requests) for kind in kinds]

    def listed(self, key: str) -> StoredObject:
        [stored] = self.store.list(key)
        return stored

    def asked(self, method: str) -> list[str]:
        return [request for request in self.proxy.requests if request.startswith(method)]
