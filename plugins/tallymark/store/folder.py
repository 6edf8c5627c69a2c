"""A folder that is laid out like a bucket."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tallymark.store import IsEnough, ObjectChangedError, StoredObject, must_be_equal

# At the top of the folder, files that are being written: no object is there.
UNFINISHED = ".unfinished/"


@dataclass(frozen=True)
class FolderStore:
    """A folder whose files are the objects; an ETag is the MD5 of the content, as on S3.

    Keys are UTF-8, as on S3; bytes of a file's name that are not are written as ``\\xNN`` in its key.

    Attributes:
        root: what is listed and read.
        target: what is written, and listed and read too; the same folder unless given.
        written: the prefix of what is written. With another target, what root holds there is somebody else's, such as
            that of the bucket whose input is replayed, and is not seen.
    """

    root: Path
    target: Path | None = None
    written: str = "output/"
    _etags: dict[tuple[str, int, int], str] = field(default_factory=dict, repr=False)
    _odd_paths: dict[str, Path] = field(default_factory=dict, repr=False)

    def list(self, prefix: str, after: str = "", is_enough: IsEnough | None = None) -> Iterator[StoredObject]:
        for root in {self.root, self.target or self.root}:
            found = (path for path in (root / prefix.rpartition("/")[0]).rglob("*") if path.is_file())
            paths = {self._key(path.relative_to(root)): path for path in found}
            keys = sorted(
                key
                for key in paths
                if key.startswith(prefix)
                and key > after
                and not key.startswith(UNFINISHED)
                and not (self._is_in_target(key) and root != self.target)
            )
            for key in keys:
                if key != paths[key].relative_to(root).as_posix():
                    self._odd_paths[key] = paths[key]
                status = paths[key].stat()
                modified = datetime.fromtimestamp(status.st_mtime, UTC)
                yield StoredObject(key, self._etag(paths[key], status), status.st_size, modified)

    def _is_in_target(self, key: str) -> bool:
        return self.target is not None and self.written != "" and key.startswith(self.written)

    @staticmethod
    def _key(path: Path) -> str:
        return os.fsencode(path.as_posix()).decode(errors="backslashreplace")

    def _etag(self, path: Path, status: os.stat_result) -> str:
        version = (str(path), status.st_size, status.st_mtime_ns)
        if version not in self._etags:
            self._etags[version] = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        return self._etags[version]

    def get(self, stored: StoredObject) -> bytes:
        path = self._odd_paths.get(stored.key, self.root / stored.key)
        if self.target and (self._is_in_target(stored.key) or not path.exists()):
            path = self.target / stored.key
        try:
            body = path.read_bytes()
        except FileNotFoundError as error:
            raise ObjectChangedError(f"{stored.key} went away after it was listed") from error
        if hashlib.md5(body, usedforsecurity=False).hexdigest() != stored.etag:
            raise ObjectChangedError(f"{stored.key} changed after it was listed")
        return body

    def put_new(self, key: str, body: bytes) -> None:
        with self._written(key, body) as (unfinished, path):
            try:
                os.link(unfinished, path)
            except FileExistsError:
                must_be_equal(key, path.read_bytes(), body)

    def put(self, key: str, body: bytes) -> None:
        with self._written(key, body) as (unfinished, path):
            os.replace(unfinished, path)

    @contextmanager
    def _written(self, key: str, body: bytes) -> Iterator[tuple[str, Path]]:
        """A finished file under a name that nobody looks at, and the path where it belongs."""
        target = self.target or self.root
        path, aside = target / key, target / UNFINISHED
        for folder in (path.parent, aside):
            folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=aside, delete=False) as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.chmod(file.name, 0o644)
            yield file.name, path
        finally:
            Path(file.name).unlink(missing_ok=True)
