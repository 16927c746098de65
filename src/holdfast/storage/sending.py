"""Sending: one local file into an object, in parts side by side where it is large, with bounded memory.

Knows how a file is cut, checksummed while it is read, and how an object that stands there already is known again. It refuses to
know what the file is a part of.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from obstore.store import ObjectStore

__all__ = ["AT_ONCE", "NONCE", "PART", "Sent", "nonce_of", "send_file"]

NONCE = "holdfastnonce"  # letters alone: what Azure allows as a name, and nobody rewrites
PART = 8 << 20
"""What is larger goes in parts of this size."""
AT_ONCE = 8
"""How many parts of one file, or small files, are under way at a time: with `PART`, the bound on memory."""
_MOST_PARTS = 9_000  # S3 takes 10,000


class Sent(NamedTuple):
    """What was sent of a file: its size in bytes and its CRC-32."""

    size: int
    checksum: int


def send_file(store: ObjectStore, key: str, source: str, nonce: str, read: list[Sent]) -> Sent:
    """Creates or replaces an object with a file's content, atomically; the nonce stands in its metadata.

    A failure in the middle leaves no object, but may leave parts that the store keeps until its own rule removes them.
    `read` is given what was read as soon as that is the whole file: from then on the object may stand there, whatever is raised.

    Raises:
        OSError: The file cannot be read, or became shorter meanwhile; what is added meanwhile is left out.
    """
    import obstore

    with open(source, "rb", buffering=0) as file:
        reader = _Reader(file.fileno(), os.fstat(file.fileno()).st_size, source, read)
        if reader.size <= PART:
            data = b"".join(reader.pieces(PART))
            obstore.put(store, key, data, attributes={NONCE: nonce}, use_multipart=False)
        else:
            part = max(PART, -(-reader.size // _MOST_PARTS))
            at_once = max(1, AT_ONCE * PART // part)
            pieces = reader.pieces(part)
            obstore.put(
                store, key, pieces, attributes={NONCE: nonce}, use_multipart=True, chunk_size=part, max_concurrency=at_once
            )
    return read[-1]


def nonce_of(store: ObjectStore, key: str) -> str:
    """The nonce in an object's metadata; empty where it carries none. obstore's errors come as they are."""
    import obstore

    return str(obstore.get(store, key, options={"head": True}).attributes.get(NONCE, ""))


class _Reader:
    """Reads a file once, from its beginning, as large as it was at first."""

    def __init__(self, descriptor: int, size: int, path: str, read: list[Sent]) -> None:
        self.size = size
        self._descriptor = descriptor
        self._path = path
        self._read = read

    def pieces(self, length: int) -> Iterator[bytes]:
        at = checksum = 0
        while at < self.size:
            piece = os.pread(self._descriptor, min(length, self.size - at), at)
            if not piece:
                raise OSError(16, "the file was changed while it was sent", self._path)
            at += len(piece)
            checksum = zlib.crc32(piece, checksum)
            if at == self.size:
                self._read.append(Sent(at, checksum))
            yield piece
        if not self.size:
            self._read.append(Sent(0, 0))
