"""Creating a journal, and taking charge of one.

Knows rule 5 of the recovery rules: claim, then read and seal what came before, then look again. It refuses to know what is done
with the journal once it is open.
"""

from __future__ import annotations

import os
import weakref

from holdfast import faults
from holdfast._core.events import ExperimentCreated
from holdfast._journal import compaction, layout
from holdfast._journal.journal import SEGMENT_BYTES, Journal
from holdfast._journal.lease import Owner, wait_politely
from holdfast._journal.ledger import Ledger, birth_bytes
from holdfast._journal.sealing import seal_epoch
from holdfast._journal.segment import read_tail
from holdfast.clock import Clock
from holdfast.errors import Fenced, StorageError
from holdfast.storage.base import AppendingStorage, Storage

__all__ = ["create", "open_journal"]

_opened_here: weakref.WeakSet[Journal] = weakref.WeakSet()


def create(storage: Storage, created: ExperimentCreated, wall: float) -> bool:
    """Writes an experiment's birth, whole and durable.

    Returns:
        False where something is there already; nothing was changed then.
    """
    return storage.put_if_absent(layout.BIRTH, birth_bytes(created, wall, int.from_bytes(os.urandom(4), "little")))


def open_journal(
    storage: Storage,
    *,
    owner: Owner,
    clock: Clock,
    takeover: bool = False,
    threads: bool = True,
    segment_bytes: int = SEGMENT_BYTES,
) -> Journal:
    """Takes charge of an experiment: from here on, this driver alone adds to its history.

    Waits politely, claims the next epoch, seals all older ones, and looks again whether it is still the last to have
    claimed. A crash in between leaves a claim without records, which the next opener seals.

    Args:
        storage: The experiment's directory.
        owner: The driver's process.
        clock: For the wait.
        takeover: Claim at once, whoever may be at work.
        threads: Sync and beat from a thread; otherwise `Journal.tick` does.
        segment_bytes: The size behind which a new file is begun.

    Raises:
        ExperimentNotFound: There is no experiment.
        ExperimentBusy: Another driver is at work.
        Fenced: Another took over while this one opened.
        JournalError: The journal is damaged where it was durable.
        StorageError: The disk refuses, or cannot be appended to.
    """
    if not isinstance(storage, AppendingStorage):
        raise StorageError(95, f"{storage.root} is an object store: experiments can be kept there so far, not driven.")
    ledger = Ledger(storage)
    epoch = _claim(ledger, owner, clock, takeover=takeover)
    faults.reach("after_claim")
    for older in range(1, epoch):
        if ledger.seal(older) is None:
            seal_epoch(ledger, older, by=epoch)
    if ledger.claimed(epoch + 1):
        raise Fenced(storage.root, epoch)
    journal = Journal(storage, ledger, epoch, threads=threads, segment_bytes=segment_bytes)
    _opened_here.add(journal)
    if len(compaction.packable(ledger)) >= compaction.PACK_AT:
        journal.compact()
    return journal


def _claim(ledger: Ledger, owner: Owner, clock: Clock, *, takeover: bool) -> int:
    """Claims the next epoch, when the last one's driver is gone or is to be taken over from; returns its number."""
    while True:
        last = ledger.newest()
        if last and ledger.seal(last) is None:
            claimed_by = ledger.claim(last).owner
            if not takeover and not _let_go_here(ledger.storage.root, last, claimed_by, owner):
                wait_politely(ledger.storage, last, claimed_by, clock)
            _refuse_damage(ledger, last)
        if ledger.newest() == last and ledger.make_claim(last + 1, owner, os.urandom(16).hex()):
            return last + 1


def _let_go_here(root: str, epoch: int, claimed_by: Owner, owner: Owner) -> bool:
    """Whether this very process drove that epoch and has let it go without a seal, as after a disk that failed."""
    if claimed_by != owner or owner != Owner.of_this_process():
        return False
    here = (journal for journal in _opened_here if not journal.closed)
    return not any(journal.storage.root == root and journal.epoch == epoch for journal in here)


def _refuse_damage(ledger: Ledger, epoch: int) -> None:
    """Raises `JournalError` for a journal that cannot be restored, before anything is claimed and a driver fenced for it."""
    sealed = epoch - 1
    while (before := ledger.seal(sealed)) is None:
        sealed -= 1  # openers that died between claim and seal leave a row of epochs without one
    if ledger.seal(sealed + 1) is None:
        read_tail(ledger, sealed + 1, before.last + 1)
