"""Reading segments: where a record's bytes are, and what damage among them means.

Knows which part of which file counts (rule 3 of the recovery rules: damage behind the last sync mark is a torn tail, damage
before it is corruption). It refuses to know the order of epochs, and it writes nothing.
"""

from __future__ import annotations

import os

import msgspec

from holdfast._journal import layout
from holdfast._journal.frame import HEADER_SIZE, BadHeader, Frames, Header, TooNew
from holdfast._journal.ledger import Ledger, Seal, too_new
from holdfast.errors import JournalError

__all__ = ["LiveTail", "Part", "header_of", "live_parts", "read_tail", "sealed_parts"]


class Part(msgspec.Struct, frozen=True):
    """Records in order that stand in one file.

    Attributes:
        file: Where, for error messages.
        first: The position of the first.
        records: Their payloads.
        offsets: Where their frames begin in the file.
    """

    file: str
    first: int
    records: list[memoryview]
    offsets: list[int]

    @property
    def next(self) -> int:
        """The position behind the last record."""
        return self.first + len(self.records)


class LiveTail(msgspec.Struct, frozen=True):
    """The last segment of an epoch that has no seal, judged.

    Attributes:
        segment: Its number; -1 where the epoch has written none.
        salt: Its salt.
        covered: How much of it is known to be durable.
        end: Where it stops to read.
        size: How much there is.
        tail: The frames between `covered` and `end`.
        part: Its records, the whole file's.
    """

    segment: int
    salt: int
    covered: int
    end: int
    size: int
    tail: bytes
    part: Part


def sealed_parts(ledger: Ledger, seal: Seal) -> list[Part]:
    """The records of a sealed epoch, from its segments (or a pack that holds them) and from its seal.

    Raises:
        JournalError: A byte that counts does not read, or a file is missing.
    """
    parts: list[Part] = []
    position = seal.first
    for number in range(seal.segment + 1):
        data, file = _bytes_of(ledger, seal.epoch, number)
        last = number == seal.segment
        if last and seal.covered == 0:
            continue  # nothing in it was known to be durable
        stop = seal.covered if last else len(data)
        header = header_of(ledger, data, file, seal.epoch, number, position)
        if last and header.salt != seal.salt:
            raise JournalError(file, 0, "it is not the segment that the epoch's seal speaks of")
        if len(data) < stop:
            raise JournalError(file, len(data), f"cut off: the epoch's seal says that it has {stop} bytes")
        scan = Frames(header.salt).scan(data, HEADER_SIZE, stop)
        if scan.end != stop:
            raise JournalError(file, scan.end, "a record that was durable does not read")
        part = Part(file, position, scan.records, scan.offsets)
        parts.append(part)
        position = part.next
    scan = Frames(seal.salt).scan(seal.tail, 0, len(seal.tail))
    file = layout.seal_path(seal.epoch)
    parts.append(Part(file, position, scan.records, scan.offsets))
    if scan.end != len(seal.tail) or parts[-1].next != seal.last + 1:
        raise JournalError(file, 0, f"the epoch ends at position {parts[-1].next - 1}, its seal says at {seal.last}")
    return parts


def live_parts(ledger: Ledger, epoch: int, first: int) -> list[Part]:
    """The records of an epoch that has no seal, up to where it stops to read. It may be growing.

    Raises:
        JournalError: It is damaged where it was durable.
    """
    numbers = _segments_there(ledger, epoch)
    parts: list[Part] = []
    position = first
    for number in numbers[:-1]:
        parts.append(_whole(ledger, epoch, number, position))
        position = parts[-1].next
    if numbers:
        parts.append(_judge(ledger, epoch, numbers[-1], position).part)
    return parts


def read_tail(ledger: Ledger, epoch: int, first: int) -> LiveTail:
    """Reads the last segment of an epoch that has no seal, as a sealer must.

    Args:
        ledger: The epochs.
        epoch: The epoch.
        first: The position behind the epoch before.

    Raises:
        JournalError: It is damaged where it was durable.
    """
    numbers = _segments_there(ledger, epoch)
    if not numbers:
        return LiveTail(-1, 0, 0, 0, 0, b"", Part(layout.claim_path(epoch), first, [], []))
    position = first
    for number in numbers[:-1]:
        position = _whole(ledger, epoch, number, position).next
    return _judge(ledger, epoch, numbers[-1], position)


def _segments_there(ledger: Ledger, epoch: int) -> list[int]:
    numbers = layout.segment_numbers(ledger.storage.names(layout.JOURNAL), epoch)
    for expected, number in enumerate(numbers):
        if number != expected:
            raise JournalError(layout.segment_path(epoch, expected), 0, "the segment is missing, a later one is there")
    return numbers


def _whole(ledger: Ledger, epoch: int, number: int, position: int) -> Part:
    """A segment that a later one follows: it was made durable before that was created."""
    data, file = _bytes_of(ledger, epoch, number)
    header = header_of(ledger, data, file, epoch, number, position)
    scan = Frames(header.salt).scan(data, HEADER_SIZE, len(data))
    if scan.end != len(data):
        raise JournalError(file, scan.end, "a record that was durable (a later segment follows) does not read")
    return Part(file, position, scan.records, scan.offsets)


def _judge(ledger: Ledger, epoch: int, number: int, position: int) -> LiveTail:
    """The last segment of an unsealed epoch. Its header is durable before anything follows it."""
    data, file = _bytes_of(ledger, epoch, number)
    if len(data) <= HEADER_SIZE and not _reads(data):
        return LiveTail(number, 0, 0, 0, len(data), b"", Part(file, position, [], []))
    header = header_of(ledger, data, file, epoch, number, position)
    frames = Frames(header.salt)
    scan = frames.scan(data, HEADER_SIZE, len(data))
    if scan.end < len(data) and frames.covered_behind(data, scan.end) > scan.end:
        raise JournalError(file, scan.end, "a record before the last sync mark, which was durable, does not read")
    covered = max(scan.covered, HEADER_SIZE)
    part = Part(file, position, scan.records, scan.offsets)
    return LiveTail(number, header.salt, covered, scan.end, len(data), data[covered : scan.end], part)


def _reads(data: bytes) -> bool:
    try:
        Header.decode(data)
    except BadHeader:
        return False
    except TooNew:
        return True
    return True


def header_of(ledger: Ledger, data: bytes, file: str, epoch: int, number: int, position: int) -> Header:
    """The header of a segment, checked against the place that its file stands in.

    Raises:
        JournalError: It does not read, or belongs elsewhere.
    """
    try:
        header = Header.decode(data)
    except TooNew as error:
        raise too_new(file) from error
    except BadHeader as error:
        raise JournalError(file, 0, "the header does not read") from error
    found = (header.experiment_id, header.epoch, header.segment)
    if found != (ledger.experiment_id, epoch, number):
        raise JournalError(file, 0, f"segment {found[2]} of epoch {found[1]} of experiment {found[0]} stands in its place")
    if header.first != position:
        raise JournalError(file, 0, f"it begins at position {header.first}; what comes before ends at {position - 1}")
    return header


def _bytes_of(ledger: Ledger, epoch: int, number: int) -> tuple[bytes, str]:
    """A segment's bytes and where they are: its own file, or a pack."""
    path = layout.segment_path(epoch, number)
    try:
        return ledger.storage.read(path), path
    except FileNotFoundError:
        packed = _from_pack(ledger, epoch, number)
    if packed is None:
        raise JournalError(path, 0, "the segment is missing, and no pack holds it")
    return packed


def _from_pack(ledger: Ledger, epoch: int, number: int) -> tuple[bytes, str] | None:
    for name in ledger.storage.names(layout.PACKS):
        held = layout.pack_range(name)
        if held is not None and held[0] <= epoch <= held[1]:
            path = f"{layout.PACKS}/{name}"
            for packed in ledger.pack(path):
                if (packed.epoch, packed.segment) == (epoch, number):
                    return packed.data, f"{path} ({os.path.basename(layout.segment_path(epoch, number))})"
    return None
