"""The content of objects that may be gzip files, within a size limit."""

import gzip
import io
import zlib
from collections.abc import Iterator

from tallymark.intake import file_kinds
from tallymark.intake.errors import RejectedError
from tallymark.settings import Limit

GZIP_MAGIC = b"\x1f\x8b"


def unpack(key: str, body: bytes, max_bytes: int, before: int = 0) -> bytes:
    """The content of an object, without its gzip compression if it has one.

    Args:
        max_bytes: how large the content may be, packed or not.
        before: bytes of the contents before it that count for the same limit.

    Raises:
        RejectedError: for a broken or truncated gzip file, or for more than ``max_bytes``.
    """
    unpacked = body
    if body.startswith(GZIP_MAGIC):
        try:
            unpacked = b"".join(_pieces(gzip.GzipFile(fileobj=io.BytesIO(body)), max_bytes - before))
        except EOFError as error:
            raise RejectedError("broken gzip: it is cut short") from error
        except (OSError, zlib.error) as error:
            raise RejectedError("broken gzip: it is damaged, or something else follows it") from error
    elif body and key.lower().endswith(".gz"):
        kind = file_kinds.signature(body)
        found = f"it is {kind}" if kind else "it does not begin as gzip does"
        raise RejectedError(f"broken gzip: the name ends in .gz, and {found}. {file_kinds.EXPECTED}")
    if before + len(unpacked) > max_bytes:
        together = " with what is before it" if before else ""
        limit = Limit("max_unpacked_bytes", max_bytes)
        raise RejectedError(f"unpacks{together} to more bytes than {limit}", limit)
    return unpacked


def _pieces(file: gzip.GzipFile, max_bytes: int) -> Iterator[bytes]:
    """What a file holds, until that is more than ``max_bytes``; one read would ask for that much memory at once."""
    left = max_bytes
    while left >= 0 and (piece := file.read(2**20)):
        left -= len(piece)
        yield piece
