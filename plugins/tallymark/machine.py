"""Faults of the machine, not the code: a full disk, missing permissions, limits on memory and open files."""

import errno
import os
import shutil
import tempfile
from pathlib import Path

from tallymark.errors import UserError

# Error number -> what happened, and what to do about it.
FAULTS = {
    errno.ENOSPC: ("The disk is full", "Free some space on it, or enlarge it"),
    errno.EDQUOT: ("The disk quota is used up", "Free some space, or raise the quota"),
    errno.EFBIG: ("A file reached the maximum size", "Raise the limit (ulimit -f), or use another file system"),
    errno.EROFS: ("The file system is read-only", "Mount it for writing, or choose another folder"),
    errno.EACCES: ("Access is denied", "Give the user of this process access to it and to its folder"),
    errno.EPERM: ("Access is denied", "Give the user of this process access to it and to its folder"),
    errno.EMFILE: ("This process has too many files open", "Raise the limit (ulimit -n)"),
    errno.ENFILE: ("The machine has too many files open", "Raise the limit (sysctl fs.file-max)"),
    errno.EIO: ("The disk failed to read or write", "Check the disk"),
    errno.ENOMEM: (
        "Out of memory",
        "Give the process more memory (SCHEDULER_MEMORY in .env), or lower TALLYMARK_MAX_CHUNKS_PER_RUN",
    ),
}
SPACE_ERRORS = (errno.ENOSPC, errno.EDQUOT)
# Texts of libraries that do not pass on the error number. DuckDB and dbt quote the operating system's text in theirs.
SIGNS = {os.strerror(number): number for number in FAULTS} | {
    "max_temp_directory_size": errno.ENOSPC,
    "database or disk is full": errno.ENOSPC,
    "attempt to write a readonly database": errno.EACCES,
    "disk I/O error": errno.EIO,
    "Out of Memory Error": errno.ENOMEM,
}


def explain(fault: BaseException | str, path: Path | None = None) -> str | None:
    """Explain a fault of the machine: what happened, to what, and what to do.

    Args:
        fault: an exception, or the text that a library reported.
        path: the file in use; an ``OSError`` that names another file takes precedence.

    Returns:
        The explanation, or None if this is not a fault of the machine.
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
    if path and number in SPACE_ERRORS:
        where += f" ({_free_space(path)})"
    return f"{what}{where}. {to_do}."


def message(error: BaseException) -> str:
    """Return the text to show for an exception: the explanation of a machine fault, or the exception's own message."""
    return (explain(error) if isinstance(error, OSError | MemoryError) else None) or str(error)


def must_be_writable(folder: Path, name: str) -> None:
    """Create a folder unless it exists, and check that files can be written to it.

    Args:
        name: the folder's name in the error message.

    Raises:
        UserError: when the folder cannot be created or is not writable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        if error.errno in SPACE_ERRORS:
            raise UserError(explain(error, folder.absolute())) from error
        why = "it is a file" if folder.is_file() else error.strerror
        raise UserError(
            f"{name} is not writable: {folder.absolute()} ({why}). Choose a folder you can write to."
        ) from error


def free_bytes(path: Path) -> int:
    """Return the bytes that this user can still write to the disk of a path, which need not exist yet."""
    return shutil.disk_usage(_existing(path)).free


def _free_space(path: Path) -> str:
    status = os.statvfs(_existing(path))
    without_inodes = status.f_files and not status.f_favail
    return f"{human_size(free_bytes(path))} free{', no inodes free' if without_inodes else ''}"


def _existing(path: Path) -> Path:
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())


def human_size(count: int) -> str:
    """Format a number of bytes as MiB."""
    return f"{count / 2**20:,.1f} MiB"
