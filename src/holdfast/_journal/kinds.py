"""The two kinds of journal behind one door: files that grow, and slots.

Knows which kind an experiment has: what is there says so, and where nothing is there yet, whether its storage can append. It
refuses to know how either works. An experiment keeps its kind wherever it is moved.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator

from holdfast import settings
from holdfast._core.events import ExperimentCreated, Record
from holdfast._journal import layout
from holdfast._journal.journal import SEGMENT_BYTES
from holdfast._journal.lease import FileSigns, Owner, Signs
from holdfast._journal.ledger import birth_bytes, read_birth
from holdfast._journal.opening import open_files
from holdfast._journal.port import Journal
from holdfast._journal.reader import FileFollower, last_of_ended_files, read_files
from holdfast._journal.slots.opening import open_slots, slots_signs
from holdfast._journal.slots.reading import SlotFollower, last_of_ended_slots, read_slots, verify_slots
from holdfast._journal.slots.slot import SLOTS
from holdfast._journal.slots.spools import Spools
from holdfast._journal.verify import Problem, verify_files
from holdfast.clock import Clock
from holdfast.errors import ExperimentNotFound, StorageError, TuneError
from holdfast.storage.base import AppendingStorage, Storage
from holdfast.storage.local import LocalStorage
from holdfast.storage.opening import above, open_storage
from holdfast.storage.uri import is_uri

__all__ = ["Follower", "create", "exists", "last_of_ended", "open_journal", "read", "signs_of", "verify"]

_PATIENCE_S = 15.0  # with the place that a spool on this machine is of
_opened_here: weakref.WeakSet[Journal] = weakref.WeakSet()


def create(storage: Storage, created: ExperimentCreated, wall: float) -> bool:
    """Writes an experiment's birth, whole and durable.

    Returns:
        False where something is there already; nothing was changed then.
    """
    return storage.put_if_absent(layout.BIRTH, birth_bytes(created, wall, int.from_bytes(os.urandom(4), "little")))


def exists(storage: Storage) -> bool:
    """Whether an experiment was created here."""
    return storage.exists(layout.BIRTH)


def open_journal(
    storage: Storage,
    *,
    owner: Owner,
    clock: Clock,
    takeover: bool = False,
    threads: bool = True,
    segment_bytes: int = SEGMENT_BYTES,
    unfenced: bool = False,
) -> Journal:
    """Takes charge of an experiment: from here on, this driver alone adds to its history.

    Args:
        storage: The experiment's directory.
        owner: The driver's process.
        clock: For a wait until a driver that cannot be seen may be presumed dead.
        takeover: Claim at once, whoever may be at work.
        threads: Sync and beat from threads; otherwise `Journal.tick` does.
        segment_bytes: Of a journal in files: the size behind which a new file is begun.
        unfenced: Of a journal on slots: take a store that ignores conditions. Two drivers then overwrite each other's records.

    Raises:
        ExperimentNotFound: There is no experiment.
        ExperimentBusy: Another driver is at work.
        Fenced: Another took over while this one opened.
        JournalError: The journal is damaged where it was durable.
        StorageError: The disk or store refuses, or cannot keep two drivers apart; or a journal in files was moved to where
            nothing can be appended.
    """

    def may_take(epoch: int, claimed_by: Owner) -> bool:
        return takeover or _let_go_here(storage.root, epoch, claimed_by, owner)

    journal: Journal
    if _on_slots(storage):
        spools = Spools(getattr(storage, "disk", None) or LocalStorage(settings.cache_dir()), _stands)
        journal = open_slots(storage, spools, owner=owner, clock=clock, may_take=may_take, threads=threads, unfenced=unfenced)
    elif isinstance(storage, AppendingStorage):
        journal = open_files(storage, owner=owner, clock=clock, may_take=may_take, threads=threads, segment_bytes=segment_bytes)
    else:
        raise StorageError(
            95,
            f"{storage.root} holds an experiment that was begun on a file system: its journal grows in files, and nothing can be "
            "appended here. It can be looked at; to go on with it, copy it to a local directory and restore it there.",
        )
    _opened_here.add(journal)
    return journal


def read(storage: Storage, after: int = -1) -> Iterator[Record]:
    """All records behind position `after`, in order.

    Beside a live driver this ends at what is written when the end is reached; in files, what was not acknowledged by then may
    still be voided by a seal.

    Raises:
        ExperimentNotFound: There is no experiment.
        JournalError: Something durable does not read. The records before it have been given out.
    """
    return read_slots(storage, after) if _on_slots(storage) else read_files(storage, after)


def last_of_ended(storage: Storage) -> Record | None:
    """The last record of a journal whose last driver closed it; None where one crashed or is at work. Reads little.

    Raises:
        ExperimentNotFound: There is no experiment.
        JournalError: What had to be read does not read.
    """
    return last_of_ended_slots(storage) if _on_slots(storage) else last_of_ended_files(storage)


def verify(storage: Storage) -> list[Problem]:
    """All damage in a journal; empty where it is sound. Writes nothing, and may run beside a live driver.

    Raises:
        ExperimentNotFound: There is no experiment.
    """
    return verify_slots(storage) if _on_slots(storage) else verify_files(storage)


def signs_of(storage: Storage, epoch: int) -> Signs:
    """Signs of life of the driver of an epoch, the newest.

    Raises:
        ExperimentNotFound: There is no experiment.
        JournalError: What had to be read does not read.
    """
    return slots_signs(storage) if _on_slots(storage) else FileSigns(storage, epoch)


class Follower:
    """Reads a history that grows. Each `poll` costs what is new, and one or two looks."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._follower: FileFollower | SlotFollower | None = None

    def poll(self) -> tuple[bool, list[Record]]:
        """What is new since the last call.

        Returns:
            `(reset, records)`. With `reset`, a seal has voided records that were given out: forget everything; the records
            are the history from its beginning.

        Raises:
            ExperimentNotFound: There is no experiment.
            JournalError: Something durable does not read.
        """
        if self._follower is None:
            self._follower = SlotFollower(self._storage) if _on_slots(self._storage) else FileFollower(self._storage)
        return self._follower.poll()


def _on_slots(storage: Storage) -> bool:
    """Whether an experiment's journal is made of slots, or will be."""
    if isinstance(storage, AppendingStorage):
        return storage.exists(SLOTS)
    return "epochs" not in storage.names(layout.JOURNAL)  # one request, where a look at one absent object takes two


def _stands(uri: str, experiment_id: str) -> bool:
    """Whether a place holds that experiment, as far as can be seen: what cannot be looked at counts as being there."""
    above_it, name = above(uri)
    if not is_uri(uri) and not (name and os.path.isdir(above_it)):  # it may be on a disk that is not mounted just now
        return True
    try:
        event = read_birth(open_storage(uri, patience_s=_PATIENCE_S)).event
    except ExperimentNotFound:
        return False
    except TuneError:
        return True
    return isinstance(event, ExperimentCreated) and event.experiment_id == experiment_id


def _let_go_here(root: str, epoch: int, claimed_by: Owner, owner: Owner) -> bool:
    """Whether this very process drove that epoch and has let it go without a seal, as after a disk that failed."""
    if claimed_by != owner or owner != Owner.of_this_process():
        return False
    here = (journal for journal in _opened_here if not journal.closed)
    return not any(journal.storage.root == root and journal.epoch == epoch for journal in here)
