"""Taking charge of a journal on slots.

Knows rule 5 of the recovery rules where nothing can be appended. A store must first show that it keeps two drivers apart. Then
the claim is the next slot: it ends the epoch before, carries what only this machine's spool has of it, and begins the next, all
in one put. It refuses to know what is done with the journal.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import NamedTuple

from holdfast import faults
from holdfast._journal.lease import Owner, Signs, wait_politely
from holdfast._journal.slots.chain import Chain, records_in
from holdfast._journal.slots.journal import SlotJournal
from holdfast._journal.slots.slot import SLOTS, START, Slot, beat_path, encode, slot_path
from holdfast._journal.slots.slot_writer import SlotWriter
from holdfast._journal.slots.spool import Spool, SpoolName, spooled
from holdfast._journal.slots.spools import Spools
from holdfast.clock import Clock
from holdfast.errors import JournalError
from holdfast.storage.base import AppendingStorage, Storage
from holdfast.storage.probing import probe
from holdfast.storage.uri import place_key

__all__ = ["open_slots", "slots_signs"]


def open_slots(
    storage: Storage,
    spools: Spools,
    *,
    owner: Owner,
    clock: Clock,
    may_take: Callable[[int, Owner], bool],
    threads: bool,
    unfenced: bool = False,
) -> SlotJournal:
    """Takes charge: waits politely, claims the next slot, and opens a spool.

    A crash in between leaves a claim behind which nothing stands, which the next opener finds as any other.

    Args:
        storage: The experiment's place.
        spools: On this machine.
        owner: The driver's process.
        clock: For the wait.
        may_take: Whether an epoch of that owner may be taken over at once.
        threads: Whether threads carry and beat.
        unfenced: Whether a store is taken that cannot keep two drivers apart: then the caller must.

    Raises:
        ExperimentNotFound, ExperimentBusy, Fenced, JournalError, StorageError: As `open_journal`.
    """
    chain = Chain(storage)
    taken = _claim(chain, spools, owner, clock, may_take, unfenced=unfenced)
    faults.reach("after_claim")
    for path in taken.spooled:
        spools.disk.delete(path)
    claim = taken.claim
    for lacks in taken.lacking:
        warnings.warn(lacks, stacklevel=3)
    name = SpoolName(chain.experiment_id, place_key(storage.uri), claim.epoch, claim.nonce)
    _keep_aside(spools.disk, chain, name)
    writer = SlotWriter(chain, claim, taken.packed)
    spool = Spool(spools.disk, name, storage.uri, claim.number + 1, claim.next)
    writer.pack_if_due()
    return SlotJournal(
        chain,
        writer,
        spool,
        claim.epoch,
        previous=taken.previous,
        previous_closed=taken.previous_closed,
        threads=threads,
    )


def slots_signs(storage: Storage) -> Signs:
    """Signs of life of the driver that put the newest slot; errors as when a journal is read."""
    chain = Chain(storage)
    return _Signs(chain, chain.end())


class _Taken(NamedTuple):
    """A claim that stands, the driver before, the files of its spool that went into the claim, and how far slots are packed.

    `lacking`: what this machine has acknowledged of the epoch before at another place, in sentences.
    """

    claim: Slot
    previous: Owner | None
    previous_closed: bool
    spooled: list[str]
    packed: int
    lacking: list[str]


def _claim(
    chain: Chain,
    spools: Spools,
    owner: Owner,
    clock: Clock,
    may_take: Callable[[int, Owner], bool],
    *,
    unfenced: bool,
) -> _Taken:
    """Takes the next slot, when the last driver is gone or is to be taken over from."""
    storage, trusted = chain.storage, unfenced
    while True:
        last = chain.end()
        before = None if last.epoch == 0 else _claim_of(chain, last)
        previous = None if before is None else before.owner
        nonce = "" if before is None else before.nonce
        name = SpoolName(chain.experiment_id, place_key(storage.uri), last.epoch, nonce)
        if previous is not None and not last.closes and not may_take(last.epoch, previous):
            wait_politely(storage.root, previous, clock, _Signs(chain, last))
        if not trusted:
            probe(storage, SLOTS)  # who is refused for politeness or damage has written nothing
            trusted = True
        fence = previous is not None and not last.closes
        payloads, files, lacking = spools.taken(name, last.next - 1, storage.root, fence=fence)
        number = last.number + 1
        claim = Slot(number, last.epoch + 1, number, last.next, payloads, os.urandom(16).hex(), owner)
        for _checked in records_in(claim):
            pass  # what goes into the claim must be the records that belong there
        if storage.put_if_absent(slot_path(number), encode(claim, chain.experiment_id)):
            packed = chain.look().packed
            if packed < number:
                return _Taken(claim, previous, last.closes, files, packed, lacking)
            storage.delete_files([slot_path(number)])  # it was packed and freed while this opener slept: no claim


def _claim_of(chain: Chain, slot: Slot) -> Slot:
    """The claim of the epoch that a slot belongs to; claims keep their objects for ever."""
    claim = slot if slot.owner is not None else chain.slot(slot.claim)
    if claim is None or claim.owner is None:
        raise JournalError(slot_path(slot.claim), 0, f"the claim of epoch {slot.epoch} is missing")
    return claim


class _Signs:
    """Signs of life of the driver that put the slot `last`."""

    def __init__(self, chain: Chain, last: Slot) -> None:
        self._chain = chain
        self._last = last

    def beat(self) -> bytes:
        """Changes while the driver lives: with its heartbeat, and when it has put another slot."""
        try:
            beat = self._chain.storage.read(beat_path(self._last.epoch))
        except FileNotFoundError:
            beat = b""
        slot = self._chain.slot(self._last.number + 1)
        return beat if slot is None else beat + b"+"

    def over(self) -> bool:
        """Whether it has closed, or another has claimed."""
        slot = self._chain.slot(self._last.number + 1)
        return slot is not None and (slot.closes or slot.owner is not None)


def _keep_aside(disk: AppendingStorage, chain: Chain, name: SpoolName) -> None:
    """Moves what older spools on this machine hold and the journal has not out of the way, and tells of it.

    Such an epoch was taken over by a driver elsewhere, which could not know of it; nothing of it is ever merged.
    """
    older = [it for it in disk.names(name.folder) if it.endswith(".log") and int(it[:8]) < name.epoch]
    if not older:
        return
    ends: dict[str, int] = {}
    stem = ""
    for slot in chain.follow(START):
        if slot.owner is not None:
            ends[stem] = slot.next - 1
            stem = name._replace(epoch=slot.epoch, nonce=slot.nonce).stem
    for file in older:
        stem = file[:25]
        if stem not in ends:
            continue  # of another copy, on a server where bucket and path have the same names
        whose = name._replace(epoch=int(file[:8]), nonce=file[9:25])
        payloads, _ = spooled(disk, whose, ends[stem])
        if payloads:
            kept = f"kept/{chain.experiment_id}/{file}"
            disk.put_if_absent(kept, disk.read(f"{name.folder}/{file}"))
            warnings.warn(
                f"{len(payloads)} records of epoch {int(file[:8])} were acknowledged on this machine and never reached "
                f"{chain.storage.root}, which another driver took over meanwhile. They are not part of the experiment; they are "
                f"kept in {disk.root}/{kept}.",
                stacklevel=4,
            )
        disk.delete(f"{name.folder}/{file}")
        disk.delete(whose.whereabouts)
