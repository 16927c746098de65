"""Taking charge of a journal in files.

Knows rule 5 of the recovery rules: claim, then read and seal what came before, then look again. It refuses to know what is done
with the journal once it is open.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from holdfast import faults
from holdfast._journal import compaction
from holdfast._journal.journal import SEGMENT_BYTES, FileJournal
from holdfast._journal.lease import FileSigns, Owner, wait_politely
from holdfast._journal.ledger import Ledger
from holdfast._journal.sealing import seal_epoch
from holdfast._journal.segment import read_tail
from holdfast.clock import Clock
from holdfast.errors import Fenced
from holdfast.storage.base import AppendingStorage

__all__ = ["open_files"]


def open_files(
    storage: AppendingStorage,
    *,
    owner: Owner,
    clock: Clock,
    may_take: Callable[[int, Owner], bool],
    threads: bool,
    segment_bytes: int = SEGMENT_BYTES,
) -> FileJournal:
    """Takes charge.

    Waits politely, claims the next epoch, seals all older ones, and looks again whether it is still the last to have
    claimed. A crash in between leaves a claim without records, which the next opener seals.

    Args:
        storage: The experiment's directory.
        owner: The driver's process.
        clock: For the wait.
        may_take: Whether an epoch of that owner may be taken over at once.
        threads: Sync and beat from a thread; otherwise `tick` does.
        segment_bytes: The size behind which a new file is begun.

    Raises:
        ExperimentNotFound, ExperimentBusy, Fenced, JournalError, StorageError: As `open_journal`.
    """
    ledger = Ledger(storage)
    epoch = _claim(ledger, owner, clock, may_take)
    faults.reach("after_claim")
    for older in range(1, epoch):
        if ledger.seal(older) is None:
            seal_epoch(ledger, older, by=epoch)
    if ledger.claimed(epoch + 1):
        raise Fenced(storage.root, epoch)
    journal = FileJournal(storage, ledger, epoch, threads=threads, segment_bytes=segment_bytes)
    if len(compaction.packable(ledger)) >= compaction.PACK_AT:
        journal.compact()
    return journal


def _claim(ledger: Ledger, owner: Owner, clock: Clock, may_take: Callable[[int, Owner], bool]) -> int:
    """Claims the next epoch, when the last one's driver is gone or is to be taken over from; returns its number."""
    while True:
        last = ledger.newest()
        if last and ledger.seal(last) is None:
            claimed_by = ledger.claim(last).owner
            if not may_take(last, claimed_by):
                wait_politely(ledger.storage.root, claimed_by, clock, FileSigns(ledger.storage, last))
            _refuse_damage(ledger, last)
        if ledger.newest() == last and ledger.make_claim(last + 1, owner, os.urandom(16).hex()):
            return last + 1


def _refuse_damage(ledger: Ledger, epoch: int) -> None:
    """Raises `JournalError` for a journal that cannot be restored, before anything is claimed and a driver fenced for it."""
    sealed = epoch - 1
    while (before := ledger.seal(sealed)) is None:
        sealed -= 1  # openers that died between claim and seal leave a row of epochs without one
    if ledger.seal(sealed + 1) is None:
        read_tail(ledger, sealed + 1, before.last + 1)
