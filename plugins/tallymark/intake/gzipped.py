"""Decompression of gzip objects, within a size limit."""

import gzip
import io
import zlib
from collections.abc import Iterator

from tallymark.intake import file_kinds
from tallymark.intake.errors import RejectedError
from tallymark.settings import Limit

GZIP_MAGIC = b"\x1f\x8b"


def decompress(key: str, body: bytes, max_bytes: int, before: int = 0) -> bytes:
    """Return the content of an object, decompressed if it is a gzip file.

    Args:
        max_bytes: maximum size of the content, gzip file or not.
        before: bytes already decompressed from earlier objects that count toward the same limit.

    Raises:
        RejectedError: when a gzip file is damaged or truncated, or when the content exceeds ``max_bytes``.
    """
    decompressed = body
    if body.startswith(GZIP_MAGIC):
        try:
            decompressed = b"".join(_pieces(gzip.GzipFile(fileobj=io.BytesIO(body)), max_bytes - before))
        except EOFError as error:
            raise RejectedError("broken gzip: the file is truncated") from error
        except (OSError, zlib.error) as error:
            raise RejectedError("broken gzip: the file is damaged, or other data follows it") from error
    elif body and key.lower().endswith(".gz"):
        kind = file_kinds.signature(body)
        found = kind or "not gzip"
        raise RejectedError(f"broken gzip: the name ends in .gz, but the content is {found}. {file_kinds.EXPECTED}")
    if before + len(decompressed) > max_bytes:
        together = ", together with the parts before it," if before else ""
        limit = Limit("max_decompressed_bytes", max_bytes)
        raise RejectedError(f"has{together} more bytes after decompression than the limit of {limit}", limit)
    return decompressed


def _pieces(file: gzip.GzipFile, max_bytes: int) -> Iterator[bytes]:
    """Read a file until it exceeds ``max_bytes``, in pieces, because a single read would allocate all of it at once."""
    left = max_bytes
    while left >= 0 and (piece := file.read(2**20)):
        left -= len(piece)
        yield piece
