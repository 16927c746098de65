"""Reading a history in files: all records in order, once (`read_files`) or as they come (`FileFollower`).

Knows how epochs follow one another. It refuses to know who drives, and never writes, locks or unpickles: it may run beside a
live driver and in a directory that it cannot write to.
"""

from __future__ import annotations

from collections.abc import Iterator

from holdfast._core.events import Record
from holdfast._journal import layout
from holdfast._journal.codec import decode_record
from holdfast._journal.frame import HEADER_SIZE, Frames
from holdfast._journal.ledger import Ledger, Seal
from holdfast._journal.segment import Part, header_of, live_parts, sealed_parts
from holdfast.errors import JournalError
from holdfast.storage.base import Storage

__all__ = ["FileFollower", "last_of_ended_files", "read_files", "records_of"]


def read_files(storage: Storage, after: int = -1) -> Iterator[Record]:
    """All records behind position `after`, in order.

    Beside a live driver this ends at what is written when the last epoch is reached; what was not acknowledged by then may
    still be voided by a seal.

    Raises:
        ExperimentNotFound: There is no experiment.
        JournalError: Something durable does not read. The records before it have been given out.
    """
    ledger = Ledger(storage)
    if after < 0:
        yield ledger.birth
    last = 0
    for epoch in range(1, ledger.newest() + 1):
        seal = ledger.seal(epoch)
        live: list[Part] = []
        if seal is None:
            try:
                live = live_parts(ledger, epoch, last + 1)
            except JournalError:
                # Sealed meanwhile: the seal alone says what counts, and the damage may lie behind it.
                if ledger.seal(epoch) is None:
                    raise
            seal = ledger.seal(epoch)
        if seal is None:
            yield from records_of(live, epoch, after)
            return
        last = seal.last
        if last > after:
            yield from records_of(sealed_parts(ledger, seal), epoch, after)


def last_of_ended_files(storage: Storage) -> Record | None:
    """The last record of a journal whose last driver closed it; None where one crashed or is at work. Reads one epoch only.

    Raises:
        ExperimentNotFound: There is no experiment.
        JournalError: That epoch does not read.
    """
    ledger = Ledger(storage)
    for epoch in range(ledger.newest(), 0, -1):
        seal = ledger.seal(epoch)
        if seal is None:
            return None
        if seal.last >= seal.first:
            return next(records_of(sealed_parts(ledger, seal), epoch, seal.last - 1))
    return None


def records_of(parts: list[Part], epoch: int, after: int = -1) -> Iterator[Record]:
    """The records behind position `after`, decoded, each checked against its place.

    Raises:
        JournalError: A record stands where another belongs.
    """
    for part in parts:
        skip = max(0, after + 1 - part.first)
        position = part.first + skip
        for payload, offset in zip(part.records[skip:], part.offsets[skip:], strict=True):
            record = decode_record(payload, part.file, offset)
            if record.position != position or record.epoch != epoch:
                problem = f"record {record.position} of epoch {record.epoch} stands where {position} of {epoch} belongs"
                raise JournalError(part.file, offset, problem)
            position += 1
            yield record


class FileFollower:
    """Reads a history that grows. Each `poll` costs what is new, and one listing of a directory."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._start_afresh()

    def _start_afresh(self) -> None:
        self._ledger: Ledger | None = None
        self._epoch = 1  # being read
        self._position = -1  # the last record given out
        self._segment = 0  # being read, of an epoch without a seal
        self._offset = 0  # in that segment
        self._frames: Frames | None = None  # of that segment, once its header reads

    def poll(self) -> tuple[bool, list[Record]]:
        """What is new since the last call.

        Returns:
            `(reset, records)`. With `reset`, a seal has voided records that were given out: forget everything; the records
            are the history from its beginning.

        Raises:
            ExperimentNotFound: There is no experiment.
            JournalError: Something durable does not read.
        """
        records: list[Record] = []
        if self._ledger is None:
            self._ledger = Ledger(self._storage)
            records.append(self._ledger.birth)
            self._position = 0
        newest = self._ledger.newest()
        while self._epoch <= newest:
            seal = self._ledger.seal(self._epoch)
            if seal is None:
                fresh: list[Record] = []
                try:
                    fresh = self._grow(self._ledger)
                except JournalError:
                    if self._ledger.seal(self._epoch) is None:
                        raise  # else sealed meanwhile, and the damage may lie behind the seal
                seal = self._ledger.seal(self._epoch)
                if seal is None:
                    self._take(fresh, records)
                    break
            if seal.last < self._position:
                self._start_afresh()
                return True, self.poll()[1]
            self._finish(self._ledger, seal, records)
        return False, records

    def _take(self, fresh: list[Record], records: list[Record]) -> None:
        records.extend(fresh)
        if fresh:
            self._position = fresh[-1].position

    def _finish(self, ledger: Ledger, seal: Seal, records: list[Record]) -> None:
        """Gives out the rest of an epoch that is sealed now."""
        if seal.last > self._position:
            self._take(list(records_of(sealed_parts(ledger, seal), seal.epoch, self._position)), records)
        self._epoch += 1
        self._segment, self._offset, self._frames = 0, 0, None

    def _grow(self, ledger: Ledger) -> list[Record]:
        """What has been appended to an epoch without a seal."""
        fresh: list[Record] = []
        while True:
            following = self._storage.exists(layout.segment_path(self._epoch, self._segment + 1))
            fresh += self._read_on(ledger, self._position + 1 + len(fresh), following)
            if not following:
                return fresh
            self._segment, self._offset, self._frames = self._segment + 1, 0, None

    def _read_on(self, ledger: Ledger, position: int, complete: bool) -> list[Record]:
        """The new records of the segment being read; `complete`: a later one follows, so all of it must read."""
        path = layout.segment_path(self._epoch, self._segment)
        try:
            data = self._storage.read(path, self._offset)
        except FileNotFoundError:
            if complete:
                raise JournalError(path, 0, "the segment is missing, a later one is there") from None
            return []
        start = 0
        if self._frames is None:
            if len(data) < HEADER_SIZE and not complete:
                return []
            self._frames = Frames(header_of(ledger, data, path, self._epoch, self._segment, position).salt)
            start = HEADER_SIZE
        scan = self._frames.scan(data, start, len(data))
        lost = scan.end < len(data) and (complete or self._frames.covered_behind(data, scan.end) > self._offset + scan.end)
        if lost:
            raise JournalError(path, self._offset + scan.end, "a record that was durable does not read")
        part = Part(path, position, scan.records, [self._offset + at for at in scan.offsets])
        self._offset += scan.end
        return list(records_of([part], self._epoch))
