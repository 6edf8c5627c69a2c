"""A folder laid out like a bucket."""

import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tallymark.store import (
    IsEnough,
    ObjectChangedError,
    StoredObject,
    UnreadableError,
    must_be_equal,
    version_mark,
)

# Subfolder of the root for files that are still being written; never listed.
UNFINISHED = ".unfinished/"


@dataclass
class FolderStore:
    r"""A folder whose files are the objects. The ETag is the MD5 of the content, as on S3.

    Keys are UTF-8, as on S3; bytes of a file name that are not UTF-8 become ``\xNN`` in the key. Symbolic links are
    followed. Unreadable files and folders (broken links, missing permissions) are listed with 0 bytes and no ETag.

    Attributes:
        root: the folder to list and read.
        target: the folder to write to, which is also listed and read; ``root`` by default.
        written: the prefix of all written keys. If ``target`` is another folder, objects below this prefix in ``root``
            are ignored, because they belong to the bucket whose input is replayed.
    """

    root: Path
    target: Path | None = None
    written: str = "output/"
    # Caches: ETags by path, size and time in nanoseconds, and paths of files whose names are not UTF-8, by key.
    _etags: dict[tuple[str, int, int], str] = field(default_factory=dict, init=False, repr=False, compare=False)
    _odd_paths: dict[str, Path] = field(default_factory=dict, init=False, repr=False, compare=False)

    def list(self, prefix: str, after: str = "", is_enough: IsEnough | None = None) -> Iterator[StoredObject]:
        for root in dict.fromkeys([self.root, self.target or self.root]):
            paths = {self._key(path.relative_to(root)): path for path in _files(root, Path(prefix.rpartition("/")[0]))}
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
                if stored := self._listed(key, paths[key]):
                    yield stored

    def _is_in_target(self, key: str) -> bool:
        return self.target is not None and self.written != "" and key.startswith(self.written)

    @staticmethod
    def _key(path: Path) -> str:
        return os.fsencode(path.as_posix()).decode(errors="backslashreplace")

    def _listed(self, key: str, path: Path) -> StoredObject | None:
        """Return the object for a path, or None if the file was deleted after it was found."""
        try:
            status = path.stat()
            etag = self._etag(path, status)
        except OSError:
            if not os.path.lexists(path):
                return None
            modified = datetime.fromtimestamp(path.lstat().st_mtime, UTC)
            return StoredObject(key, version_mark(0, modified), 0, modified, has_etag=False)
        return StoredObject(key, etag, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))

    def _etag(self, path: Path, status: os.stat_result) -> str:
        version = (str(path), status.st_size, status.st_mtime_ns)
        if version not in self._etags:
            self._etags[version] = _md5(_read_file(path))
        return self._etags[version]

    def get(self, stored: StoredObject) -> bytes:
        path = self._odd_paths.get(stored.key, self.root / stored.key)
        if self.target and (self._is_in_target(stored.key) or not os.path.lexists(path)):
            path = self.target / stored.key
        try:
            body = _read_file(path)
        except OSError as error:
            if not os.path.lexists(path):
                raise ObjectChangedError(f"{path} was deleted after it was listed.") from error
            reason = error.strerror if path.exists() else "the target of the symbolic link is missing"
            raise UnreadableError(
                f"Could not read {path}: {reason}. Make it readable, put it again, or delete it.", is_definite=True
            ) from error
        if not stored.has_etag or _md5(body) != stored.etag:
            raise ObjectChangedError(
                f"{path} was replaced after it was listed. It was not loaded. The next listing shows its current state."
            )
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
        """Write the content to a temporary file; yields its name and the final path."""
        target = self.target or self.root
        path, temporary = target / key, target / UNFINISHED
        for folder in (path.parent, temporary):
            folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=temporary, delete=False) as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.chmod(file.name, 0o644)
            yield file.name, path
        finally:
            Path(file.name).unlink(missing_ok=True)


def _files(root: Path, start: Path) -> Iterator[Path]:
    """Yield all files below a folder, and all folders that cannot be listed.

    Args:
        start: the folder, relative to ``root``.
    """
    above = [root / folder for folder in start.parents]
    yield from _files_below(root / start, frozenset(_identity(folder) for folder in above if folder.exists()))


def _files_below(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    """Yield the same as ``_files``, but skip symbolic links to a parent folder (``above``), which would never end."""
    try:
        identity = _identity(folder)
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError:
        yield folder
        return
    if identity in above:
        return
    for entry in entries:
        if _is_folder(entry):
            yield from _files_below(Path(entry.path), above | {identity})
        else:
            yield Path(entry.path)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _read_file(path: Path) -> bytes:
    """Read a regular file. Anything else raises OSError, because a pipe or a device might never end."""
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return path.read_bytes()


def _md5(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()
