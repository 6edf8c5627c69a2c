"""Check that DuckDB can work in the warehouse's folder."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tallymark.doctor import Finding, Verdict
from tallymark.settings import Settings

LITTLE_SPACE_BYTES = 2 * 2**30
MOUNTS = Path("/proc/self/mounts")
# DuckDB relies on file locks and on the order of writes. Network file systems guarantee neither.
NETWORK_FILE_SYSTEMS = {
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "beegfs", "gpfs", "davfs"),
    *(f"fuse.{name}" for name in ("sshfs", "s3fs", "goofys", "gcsfuse", "rclone", "glusterfs", "mount-s3", "geesefs")),
    *("fuse.blobfuse", "fuse.blobfuse2", "fuse.juicefs"),
}


def check_warehouse(settings: Settings) -> Iterator[Finding]:
    """Check that the folder is writable, has free space and is on a local disk. Leaves nothing behind."""
    folder = settings.warehouse.absolute().parent
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    yield _writable(settings.warehouse.absolute(), folder, existing)
    free = shutil.disk_usage(existing).free
    enough = free >= LITTLE_SPACE_BYTES
    yield Finding(
        Verdict.WORKS if enough else Verdict.FAILS,
        "disk space",
        f"{free / 2**30:.1f} GiB free at {existing}"
        + ("" if enough else f". Free at least {LITTLE_SPACE_BYTES // 2**30} GiB: the warehouse keeps every row."),
    )
    kind = file_system(existing)
    if kind is None:
        yield Finding(Verdict.NOT_CHECKED, "file system", f"cannot determine the file system of {existing}")
    elif kind in NETWORK_FILE_SYSTEMS:
        yield Finding(
            Verdict.FAILS,
            "file system",
            f"{existing} is on a network file system ({kind}), where DuckDB may damage its file. Set "
            "TALLYMARK_WAREHOUSE to a file on a local disk.",
        )
    else:
        yield Finding(Verdict.WORKS, "file system", f"{existing} is on {kind}")


def _writable(warehouse: Path, folder: Path, existing: Path) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
        if warehouse.exists() and not os.access(warehouse, os.R_OK | os.W_OK):
            raise PermissionError(13, "Permission denied", str(warehouse))
    except OSError as error:
        return Finding(
            Verdict.FAILS,
            "warehouse",
            f"{error.filename or existing} is not writable ({error.strerror}). Set TALLYMARK_WAREHOUSE to a file in a "
            "folder that this user can write to.",
        )
    state = "exists" if warehouse.exists() else "will be created by the first run"
    return Finding(Verdict.WORKS, "warehouse", f"{warehouse} {state}; {folder} is writable")


def file_system(path: Path) -> str | None:
    """Return the type of the file system of an existing path, such as ``ext4``. None: unknown."""
    try:
        lines = MOUNTS.read_text().splitlines()
    except OSError:
        return None
    path, found = path.resolve(), None
    for line in lines:
        _, escaped, kind, *_ = line.split(" ")
        # Spaces and similar characters are escaped, such as \040.
        place = Path(escaped.encode().decode("unicode_escape"))
        if path.is_relative_to(place) and (found is None or len(place.parts) >= found[0]):
            found = len(place.parts), kind
    return found and found[1]
