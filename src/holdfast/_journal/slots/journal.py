"""The journal of one driver on slots, open: spooling, carrying to the store, closing.

Knows the order of things in rules 1 and 5 of the recovery rules: into the spool, look whether the spool was taken, only then
return; onto the store, in the slot that comes next, only then durable. A slot that somebody else has is a later driver's claim:
this one is fenced. It refuses to know how an epoch is claimed and what events mean.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence

from holdfast import faults
from holdfast._core.events import AttemptEnded, CheckpointCommitted, EpochEnded, Event, Record, ResultReported, TailCut
from holdfast._journal import snapshot
from holdfast._journal.codec import encode_record
from holdfast._journal.keeper import Keeper
from holdfast._journal.lease import Owner
from holdfast._journal.slots import packing
from holdfast._journal.slots.chain import Chain, records_in
from holdfast._journal.slots.courier import Courier
from holdfast._journal.slots.slot import START
from holdfast._journal.slots.slot_writer import SlotWriter
from holdfast._journal.slots.spool import Spool
from holdfast.errors import Fenced, InternalError, StorageError, TuneError

__all__ = ["SlotJournal"]

_URGENT = frozenset({CheckpointCommitted, AttemptEnded, EpochEnded})


class SlotJournal:
    """An open journal. One thread calls it; `durable` may be read from any. Attributes and errors as of the port.

    Args:
        chain: The slots.
        writer: Of this epoch.
        spool: Of this epoch.
        epoch: This driver's epoch.
        previous: The driver before; None for the first.
        previous_closed: Whether the driver before closed in good order.
        threads: Whether threads carry and beat; otherwise `tick` does.
    """

    def __init__(
        self,
        chain: Chain,
        writer: SlotWriter,
        spool: Spool,
        epoch: int,
        *,
        previous: Owner | None,
        previous_closed: bool,
        threads: bool,
    ) -> None:
        self.storage = chain.storage
        self.epoch = epoch
        self.durable = writer.durable
        self.next_position = writer.durable + 1
        self.cuts: list[TailCut] = []  # a slot is whole or not there
        self.previous = previous
        self.previous_closed = previous_closed
        self.closed = False
        self._chain = chain
        self._writer = writer
        self._spool = spool
        self._staged: list[Record] = []
        self._ended: TuneError | None = None
        self._courier = Courier(self._put, writer.pack_if_due, self._end)
        self._keeper = Keeper(lambda: None, writer.beat, self._end)
        if threads:
            self._courier.start()
            self._keeper.start()

    def older(self, after: int = -1) -> Iterator[Record]:
        """The records behind position `after` up to where this driver took charge: there is no need to ask for the end again."""
        if after < 0:
            yield self._chain.birth
        for slot in self._chain.follow(START, after, self._writer.claim):
            yield from records_in(slot, after)

    def stage(self, events: Sequence[Event], time: float, wall: float) -> list[Record]:
        self._check_open()
        position, epoch = self.next_position, self.epoch
        records = [Record(position + n, epoch, time, wall, event) for n, event in enumerate(events)]
        self._staged += records
        self.next_position = position + len(records)
        return records

    def flush(self) -> None:
        """Writes what is staged into the spool. When it returns no kill loses it on this machine, and nobody here had taken over.

        Waits while the store is far behind.
        """
        if not self._staged:
            return
        self._check_open()
        records, self._staged = self._staged, []
        payloads = [encode_record(record) for record in records]
        try:
            faults.reach("before_write")
            self._spool.append(payloads, self._writer.last + 1)
            faults.reach("after_write")
            if self._spool.taken():
                raise Fenced(self.storage.root, self.epoch)
            faults.reach("after_claim_check")
            if faults.armed("after_event"):
                for _ in records:
                    faults.reach("after_event")
            self._courier.add(payloads, hurry=any(map(_urgent, records)))
        except TuneError as error:
            self._end(error)
            raise
        except BaseException:
            # Ctrl+C in here: nobody knows whether it was written, so nothing may follow it. A restore finds out.
            self._end(StorageError(errno.EINTR, "an append to the journal was interrupted; restore the experiment"))
            raise

    def in_charge(self) -> bool:
        """Whether no later driver had taken the slot that this one takes next. One request."""
        if self._ended is not None or self._spool.taken():
            return False
        return self._courier.between(self._writer.next_is_free)

    def sync(self, *, mark: bool = True) -> None:
        """Returns when all records are on the store."""
        self._check_open()
        try:
            self._courier.drain()
        except TuneError as error:
            self._end(error)
            raise
        except BaseException:
            self._end(StorageError(errno.EINTR, "a put of the journal was interrupted; restore the experiment"))
            raise
        self._check_open()

    def tick(self, now: float) -> None:
        if not self._courier.threaded and self._ended is None and not self.closed:
            self._keeper.tick(now)
            self._courier.tick(now)

    def close(self, seal: bool = True) -> None:
        if self.closed:
            return
        self.closed = True
        done = False
        try:
            self._keeper.stop()
            self._courier.stop()
            if self._ended is None:
                self._courier.drain()
                if seal:
                    faults.reach("before_seal")
                    self._put([], closes=True)
                    faults.reach("after_seal")
                done = True
        finally:
            self._spool.close(remove=done)

    def save_snapshot(self, schema: int, position: int, payload: bytes) -> None:
        self._check_open()
        if position > self.durable:
            raise InternalError(f"a snapshot at position {position}, while only {self.durable} is durable: sync first")
        snapshot.save_snapshot(self._chain, self.epoch, schema, position, payload)

    def load_snapshot(self, schema: int) -> tuple[int, bytes] | None:
        return snapshot.load_snapshot(self._chain, schema, self.next_position - 1)

    def compact(self) -> int:
        return self._writer.pack() + packing.sweep(self._chain)

    def _put(self, payloads: list[bytes], *, closes: bool = False) -> None:
        """The courier calls this, or the driver's thread when nothing else is in flight."""
        if self._ended is not None:
            raise self._ended
        self._writer.put(payloads, closes=closes)
        self.durable = self._writer.durable
        self._spool.forget(self.durable)

    def _end(self, error: TuneError) -> None:
        if self._ended is None:
            self._ended = error

    def _check_open(self) -> None:
        if self._ended is not None:
            raise self._ended
        if self.closed:
            raise InternalError("the journal is closed")


def _urgent(record: Record) -> bool:
    """Whether it goes to the store at once: a checkpoint that commits, a trial or an epoch that ends."""
    event = record.event
    if type(event) is ResultReported:  # most are; this is asked for each
        return event.saved is not None
    return type(event) in _URGENT
