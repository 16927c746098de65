"""The bytes of a segment: one header, then frames of two kinds, records and sync marks.

Knows how bytes are framed and checked, and how far they read. It refuses to know what a record means, which file the
bytes came from, and whether damage is a torn tail or corruption: it only tells what a caller needs to judge that.

    header   magic 8s | version u16 | size u16 | experiment 16s | epoch u32 | segment u32 | first u64 | salt u32 | crc u32
    frame    length u32 | crc u32 | kind u8 | payload          (little-endian; crc over kind and payload, seeded with the salt)
    mark     a frame whose payload is: pattern 8s (made of the salt) | covered u64 | position u64

The salt differs in each segment, so bytes that belong to another file never read as a frame of this one. A length of
zero is never valid: a page of zeroes, which a power cut leaves behind, does not read.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import msgspec

__all__ = ["HEADER_SIZE", "MAGIC", "VERSION", "BadHeader", "Frames", "Header", "Scan", "TooNew"]

MAGIC = b"HOLDFAST"
VERSION = 1
RECORD = ord("R")
MARK = ord("M")

_HEADER = struct.Struct("<8sHH16sIIQII")
_PREFIX = struct.Struct("<8sHH")
_FRAME = struct.Struct("<IIB")
_MARK = struct.Struct("<8sQQ")
_U32 = struct.Struct("<I")
_MARK_TAG = b"\xc1mrk"  # 0xc1 stands in no msgpack text of its own accord

HEADER_SIZE = _HEADER.size


class BadHeader(Exception):
    """The header does not read. Stays inside the journal: callers turn it into what it means."""


class TooNew(Exception):
    """The header is sound and of a version that this code does not know."""


class Header(msgspec.Struct, frozen=True):
    """The first bytes of a segment.

    Attributes:
        experiment_id: 32 hexadecimal digits.
        epoch: The epoch that the segment belongs to.
        segment: Its number in the epoch, from 0.
        first: The position of its first record.
        salt: 32 random bits.
    """

    experiment_id: str
    epoch: int
    segment: int
    first: int
    salt: int

    def encode(self) -> bytes:
        """The header's bytes."""
        body = _HEADER.pack(
            MAGIC,
            VERSION,
            HEADER_SIZE,
            bytes.fromhex(self.experiment_id),
            self.epoch,
            self.segment,
            self.first,
            self.salt,
            0,
        )[:-4]
        return body + _U32.pack(zlib.crc32(body))

    @classmethod
    def decode(cls, data: bytes) -> Header:
        """Reads the header at the beginning of `data`.

        The crc stands in the header's last four bytes whatever its version, so that a newer format is told from damage.

        Raises:
            BadHeader: It does not read.
            TooNew: It reads, and is of a later version.
        """
        if len(data) < HEADER_SIZE:
            raise BadHeader
        magic, version, size = _PREFIX.unpack_from(data)
        if magic != MAGIC or not HEADER_SIZE <= size <= len(data):
            raise BadHeader
        if zlib.crc32(memoryview(data)[: size - 4]) != _U32.unpack_from(data, size - 4)[0]:
            raise BadHeader
        if version > VERSION:
            raise TooNew
        if version != VERSION or size != HEADER_SIZE:
            raise BadHeader
        _, _, _, experiment, epoch, segment, first, salt, _ = _HEADER.unpack_from(data)
        return cls(experiment.hex(), epoch, segment, first, salt)


class Scan(msgspec.Struct, frozen=True):
    """How far bytes read.

    Attributes:
        records: The payloads of the records, in order.
        offsets: Where each record's frame begins.
        end: Where the first byte stands that does not read; the length of all where everything does.
        covered: The highest offset that a mark among the frames read says to be durable; 0 for none.
    """

    records: list[memoryview]
    offsets: list[int]
    end: int
    covered: int


class Frames:
    """Writes and reads the frames of one segment: all that depends on its salt."""

    def __init__(self, salt: int) -> None:
        self._record_seed = zlib.crc32(bytes([RECORD]), salt)
        self._mark_seed = zlib.crc32(bytes([MARK]), salt)
        self._pattern = _MARK_TAG + _U32.pack(salt)

    def record(self, payload: bytes) -> bytes:
        """The frame of a record."""
        return _FRAME.pack(len(payload), zlib.crc32(payload, self._record_seed), RECORD) + payload

    def mark(self, covered: int, position: int) -> bytes:
        """The frame that says: all before offset `covered`, up to the record at `position`, is durable."""
        payload = _MARK.pack(self._pattern, covered, position)
        return _FRAME.pack(len(payload), zlib.crc32(payload, self._mark_seed), MARK) + payload

    def scan(self, data: bytes, start: int, stop: int) -> Scan:
        """Reads frames from `start` until `stop` or the first that does not read."""
        view = memoryview(data)
        records: list[memoryview] = []
        offsets: list[int] = []
        covered = 0
        at = start
        unpack, crc32 = _FRAME.unpack_from, zlib.crc32
        size, record_seed = _FRAME.size, self._record_seed
        last = stop - size
        while at < last:
            length, crc, kind = unpack(data, at)
            begin = at + size
            end = begin + length
            if length == 0 or end > stop:
                break
            payload = view[begin:end]
            if kind == RECORD:
                if crc32(payload, record_seed) != crc:
                    break
                records.append(payload)
                offsets.append(at)
            else:
                mark = self._mark_at(data, at, stop)
                if mark is None:
                    break
                covered = max(covered, mark)
            at = end
        return Scan(records, offsets, at, covered)

    def covered_behind(self, data: bytes, start: int) -> int:
        """The highest offset that any sound mark at or behind `start` says to be durable; 0 where there is none.

        Looks at every byte, not along the frames, so that a mark is found behind frames that do not read.
        """
        return max(self._marks(data, start), default=0)

    def _marks(self, data: bytes, start: int) -> Iterator[int]:
        at = data.find(self._pattern, start)
        while at >= 0:
            mark = self._mark_at(data, at - _FRAME.size, len(data)) if at >= _FRAME.size else None
            if mark is not None:
                yield mark
            at = data.find(self._pattern, at + 1)

    def _mark_at(self, data: bytes, at: int, stop: int) -> int | None:
        """The offset covered by the mark whose frame begins at `at`; None where no sound mark stands there."""
        begin = at + _FRAME.size
        end = begin + _MARK.size
        if end > stop:
            return None
        length, crc, kind = _FRAME.unpack_from(data, at)
        if length != _MARK.size or kind != MARK or zlib.crc32(memoryview(data)[begin:end], self._mark_seed) != crc:
            return None
        pattern, covered, _position = _MARK.unpack_from(data, begin)
        return int(covered) if pattern == self._pattern else None
