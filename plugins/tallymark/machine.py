"""Faults of the machine, not of the code: a full disk, missing permissions, limits on memory and open files."""

import errno
import os
import shutil
import tempfile
from pathlib import Path

from tallymark.errors import UserError

# What happened, and what to do about it.
FAULTS = {
    errno.ENOSPC: ("The disk is full", "Free some space on it, or enlarge it"),
    errno.EDQUOT: ("The disk quota is used up", "Free some space, or raise the quota"),
    errno.EFBIG: ("A file reached its largest size", "Raise the limit (ulimit -f), or use another file system"),
    errno.EROFS: ("The file system is read-only", "Mount it for writing, or choose another folder"),
    errno.EACCES: ("Access is denied", "Give the user of this process access to it and to its folder"),
    errno.EPERM: ("Access is denied", "Give the user of this process access to it and to its folder"),
    errno.EMFILE: ("This process has too many files open", "Raise the limit (ulimit -n)"),
    errno.ENFILE: ("The machine has too many files open", "Raise the limit (sysctl fs.file-max)"),
    errno.EIO: ("The disk failed to read or write", "Check the disk"),
    errno.ENOMEM: (
        "Memory ran out",
        "Give the process more memory (SCHEDULER_MEMORY in .env), or lower TALLYMARK_MAX_CHUNKS_PER_RUN",
    ),
}
OF_SPACE = (errno.ENOSPC, errno.EDQUOT)
# How libraries that lose the error number report the fault: DuckDB and dbt quote the operating system, and say more.
SIGNS = {os.strerror(number): number for number in FAULTS} | {
    "max_temp_directory_size": errno.ENOSPC,
    "database or disk is full": errno.ENOSPC,
    "attempt to write a readonly database": errno.EACCES,
    "disk I/O error": errno.EIO,
    "Out of Memory Error": errno.ENOMEM,
}


def explain(fault: BaseException | str, path: Path | None = None) -> str | None:
    """Sentences for people about a fault of the machine: what happened, to what, what to do.

    Args:
        fault: an exception, or what a library reported.
        path: the file that was used, unless an ``OSError`` names another one.

    Returns:
        None when it is no fault of the machine.
    """
    number: int | None
    if isinstance(fault, MemoryError):
        number = errno.ENOMEM
    elif isinstance(fault, OSError):
        number, path = fault.errno, Path(fault.filename) if isinstance(fault.filename, str) else path
    else:
        number = next((number for sign, number in SIGNS.items() if sign in str(fault)), None)
    if number is None or number not in FAULTS:
        return None
    what, to_do = FAULTS[number]
    where = f": {path}" if path else ""
    if path and number in OF_SPACE:
        where += f" ({_room(path)})"
    return f"{what}{where}. {to_do}."


def message(error: BaseException) -> str:
    """What to tell people about any exception: a fault of the machine explained, or the exception's own text."""
    return (explain(error) if isinstance(error, OSError | MemoryError) else None) or str(error)


def must_be_writable(folder: Path, name: str) -> None:
    """Create a folder unless it exists; raise a UserError when that fails, or when nothing can be written into it.

    Args:
        name: what the command calls the folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        if error.errno in OF_SPACE:
            raise UserError(explain(error, folder.absolute())) from error
        why = "it is a file" if folder.is_file() else error.strerror
        raise UserError(
            f"{name} is not writable: {folder.absolute()} ({why}). Choose a folder you can write to."
        ) from error


def free_bytes(path: Path) -> int:
    """Bytes that this user may still write to the disk of a file, which need not be there yet."""
    return shutil.disk_usage(_existing(path)).free


def _room(path: Path) -> str:
    status = os.statvfs(_existing(path))
    without_inodes = status.f_files and not status.f_favail
    return f"{human_size(free_bytes(path))} free{', no inodes free' if without_inodes else ''}"


def _existing(path: Path) -> Path:
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())


def human_size(count: int) -> str:
    """A number of bytes, for people."""
    return f"{count / 2**20:,.1f} MiB"
