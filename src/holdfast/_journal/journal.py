"""The journal of one driver in files, open: appending under the fence, syncing, closing.

Knows the order of things in rules 1, 3 and 5 of the recovery rules: write, look for a later claim, only then return. It refuses
to know how an epoch is claimed and what events mean, and decides nothing about an experiment.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator, Sequence

from holdfast import faults
from holdfast._core.events import Event, Record, TailCut
from holdfast._journal import compaction, layout, snapshot
from holdfast._journal.codec import encode_record
from holdfast._journal.keeper import Keeper
from holdfast._journal.lease import Owner
from holdfast._journal.ledger import Ledger, Seal
from holdfast._journal.reader import read_files
from holdfast._journal.segment_writer import SegmentWriter
from holdfast.errors import Fenced, InternalError, StorageError, TuneError
from holdfast.storage.base import AppendingStorage

__all__ = ["SEGMENT_BYTES", "FileJournal"]

SEGMENT_BYTES = 64 << 20


class FileJournal:
    """An open journal. One thread calls it; `durable` may be read from any.

    After `Fenced` or `StorageError` it is at its end: each later call raises the same, and nothing more is written.

    Attributes:
        storage: The experiment's directory.
        epoch: This driver's epoch.
        next_position: The position of the next record.
        durable: The last position that no power cut can take away.
        cuts: What seals cut off and no record tells yet.
        previous: The driver of the epoch before; None for the first.
        previous_closed: Whether that one closed in good order; True for the first.
        closed: Whether `close` was called.
    """

    def __init__(self, storage: AppendingStorage, ledger: Ledger, epoch: int, *, threads: bool, segment_bytes: int) -> None:
        before = _sealed(ledger, epoch - 1)
        self.storage = storage
        self.epoch = epoch
        self.next_position = before.last + 1
        self.durable = before.last
        self.cuts = _untold_cuts(ledger, epoch)
        self.previous: Owner | None = ledger.claim(epoch - 1).owner if epoch > 1 else None
        self.previous_closed = before.by == before.epoch
        self._ledger = ledger
        self._segment_bytes = segment_bytes
        self._later_claim = layout.claim_path(epoch + 1)
        self._ended: TuneError | None = None
        self._staged: list[Record] = []
        self.closed = False
        self._syncing = threading.Lock()  # held for an fsync, and while the file that is synced changes
        self._first = self.next_position
        self._writer = SegmentWriter(self.storage, ledger.experiment_id, epoch, 0, self.next_position)
        self._beats = self.storage.create_append(layout.beat_path(epoch))
        self._keeper = Keeper(self._sync_written, lambda: self._beats.write(b"."), self._end)
        if threads:
            self._keeper.start()

    def older(self, after: int = -1) -> Iterator[Record]:
        """The records behind position `after` up to where this driver took charge."""
        if after >= self._first - 1:
            return
        for record in read_files(self.storage, after):
            yield record
            if record.position == self._first - 1:
                return

    def stage(self, events: Sequence[Event], time: float, wall: float) -> list[Record]:
        """Gives events their places. They are on record when `flush` has returned; until then nothing may rest on them.

        Args:
            events: The facts, in order.
            time: Experiment time, seconds.
            wall: Seconds since 1970.

        Returns:
            Their records.

        Raises:
            Fenced: Another driver has taken over, as an earlier call has said.
            StorageError: The disk refused, likewise.
        """
        self._check_open()
        position, epoch = self.next_position, self.epoch
        records = [Record(position + n, epoch, time, wall, event) for n, event in enumerate(events)]
        self._staged += records
        self.next_position = position + len(records)
        return records

    def flush(self) -> None:
        """Writes what is staged, in one piece. When it returns that is written, and no later driver had claimed by then.

        Raises:
            Fenced: Another driver has taken over: nothing of this may be acknowledged or acted on.
            StorageError: The disk refuses: likewise.
        """
        if not self._staged:
            return
        self._check_open()
        records, self._staged = self._staged, []
        writer = self._writer
        frame = writer.frames.record
        data = b"".join([writer.pending_mark(), *(frame(encode_record(record)) for record in records)])
        try:
            if writer.written[0] + len(data) > self._segment_bytes and writer.written[1] >= writer.first:
                writer, data = self._rotate(records)
            faults.reach("before_write")
            writer.write(data, records[-1].position)
            faults.reach("after_write")
            if not self.in_charge():
                raise Fenced(self.storage.root, self.epoch)
            faults.reach("after_claim_check")
            if faults.armed("after_event"):
                for _ in records:
                    faults.reach("after_event")
        except TuneError as error:
            self._end(error)
            raise
        except BaseException:
            # Ctrl+C in here: nobody knows whether it was written, so nothing may follow it. A restore finds out.
            self._end(StorageError(errno.EINTR, f"an append to {writer.path} was interrupted; restore the experiment"))
            raise
        self._keeper.note_write()

    def in_charge(self) -> bool:
        """Whether no later driver has claimed the experiment yet."""
        return not self.storage.exists(self._later_claim)

    def sync(self, *, mark: bool = True) -> None:
        """Makes all records durable, and marks them so; without `mark` the mark goes out with the next append.

        Raises:
            Fenced: Another driver has taken over.
            StorageError: The disk refuses.
        """
        self._check_open()
        try:
            self._sync_written()
            frame = self._writer.pending_mark() if mark else b""
            if frame:
                self._writer.write(frame, self._writer.written[1])
        except TuneError as error:
            self._end(error)
            raise

    def tick(self, now: float) -> None:
        """Without a thread: syncs and beats as far as due at `now` (monotonic seconds). Otherwise does nothing."""
        if not self._keeper.threaded and self._ended is None and not self.closed:
            self._keeper.tick(now)

    def close(self, seal: bool = True) -> None:
        """Lets the journal go: syncs, and seals its epoch, so that the next driver need not wait and every byte is checked.

        After `Fenced` or `StorageError` nothing is written. May be called twice.

        Args:
            seal: False leaves the epoch as a crash would, but durable.

        Raises:
            StorageError: The disk refuses; the epoch is left as by a crash.
        """
        if self.closed:
            return
        self.closed = True
        try:
            self._keeper.stop()
            if self._ended is None:
                self._sync_written()
                if seal:
                    _seal_own(self._ledger, self.epoch, self._writer, self._first)
        finally:
            self._writer.close()
            self._beats.close()

    def save_snapshot(self, schema: int, position: int, payload: bytes) -> None:
        """Publishes a snapshot of the history up to `position`.

        Raises:
            InternalError: `position` is not durable yet: the history could lose what the snapshot has.
        """
        self._check_open()
        if position > self.durable:
            raise InternalError(f"a snapshot at position {position}, while only {self.durable} is durable: sync first")
        snapshot.save_snapshot(self._ledger, self.epoch, schema, position, payload)

    def load_snapshot(self, schema: int) -> tuple[int, bytes] | None:
        """The newest sound snapshot of this schema on the surviving history, as `(position, payload)`; or None."""
        return snapshot.load_snapshot(self._ledger, schema, self.next_position - 1)

    def compact(self) -> int:
        """Packs the segments of sealed epochs into fewer files; returns how many went. Drops no record."""
        return compaction.compact(self._ledger)

    def _rotate(self, records: list[Record]) -> tuple[SegmentWriter, bytes]:
        """Begins a new segment, when all of the old one is durable, and frames `records` for it."""
        with self._syncing:
            self.durable = max(self.durable, self._writer.sync())
            self._writer.close()
            first = records[0].position
            self._writer = SegmentWriter(self.storage, self._ledger.experiment_id, self.epoch, self._writer.number + 1, first)
        frame = self._writer.frames.record
        return self._writer, b"".join(frame(encode_record(record)) for record in records)

    def _sync_written(self) -> None:
        with self._syncing:
            if self._writer.written[1] > self.durable:
                self.durable = self._writer.sync()

    def _end(self, error: TuneError) -> None:
        if self._ended is None:
            self._ended = error

    def _check_open(self) -> None:
        if self._ended is not None:
            raise self._ended
        if self.closed:
            raise InternalError("the journal is closed")


def _seal_own(ledger: Ledger, epoch: int, writer: SegmentWriter, first: int) -> None:
    """Seals a driver's own epoch, which begins at position `first` and is durable to its end."""
    faults.reach("before_seal")
    ledger.publish_seal(
        Seal(
            epoch=epoch,
            by=epoch,
            segment=writer.number,
            covered=writer.synced[0],
            tail=b"",
            salt=writer.salt,
            first=first,
            last=writer.synced[1],
        )
    )
    faults.reach("after_seal")


def _sealed(ledger: Ledger, epoch: int) -> Seal:
    seal = ledger.seal(epoch)
    if seal is None:
        raise InternalError(f"epoch {epoch} has no seal")
    return seal


def _untold_cuts(ledger: Ledger, epoch: int) -> list[TailCut]:
    """What was cut by seals since the last epoch that has records: nobody behind it can have recorded that yet."""
    cuts: list[TailCut] = []
    for older in range(epoch - 1, 0, -1):
        seal = _sealed(ledger, older)
        if seal.cut is not None:
            cuts.append(TailCut(seal.cut.file, seal.cut.offset, seal.cut.size))
        if seal.last >= seal.first:
            break
    return cuts[::-1]
