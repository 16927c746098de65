"""The chain of slots: reading it from anywhere, and finding its end.

Knows how slots follow one another and that packs hold older ones. It only reads, also beside a live driver, and refuses to
know who may add to it.

The end is found by asking for numbers, from a hint on: what a listing lacks says nothing. A listing is believed where it shows
something: a pack, or a number behind the supposed end. Packs go before slots: a number whose slot went into a pack may be taken
once more, by an opener that slept between finding the end and claiming it. What that one leaves counts for nothing, so a claim
is believed only when a listing made after it was read shows no pack that has its number.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from holdfast._core.events import ExperimentCreated, Record
from holdfast._journal.ledger import read_birth
from holdfast._journal.reader import records_of
from holdfast._journal.segment import Part
from holdfast._journal.slots.slot import HINT, SLOTS, START, Pack, Slot, decode, decode_pack, slot_path
from holdfast.errors import JournalError
from holdfast.storage.base import Storage

__all__ = ["Chain", "Listing", "records_in"]


class Listing(NamedTuple):
    """What a listing of the slots shows: packs, each as far as no other one has all of it; and numbers that have a slot."""

    packs: list[Pack]
    numbers: list[int]

    @property
    def packed(self) -> int:
        """The last number that a pack has; 0 where there are none."""
        return max((pack.last for pack in self.packs), default=0)

    @property
    def reach(self) -> int:
        """The last number that is known to be taken; there may be more."""
        return max(self.packed, self.numbers[-1] if self.numbers else 0)

    def holding(self, number: int) -> Pack | None:
        """The pack that has a number and reaches furthest."""
        return max((pack for pack in self.packs if pack.first <= number <= pack.last), key=lambda it: it.last, default=None)


class Chain:
    """One reader's view of the slots.

    Attributes:
        storage: The experiment's place.
        experiment_id: From the birth.
        birth: The record at position 0.

    Raises:
        ExperimentNotFound: There is no birth.
        JournalError: The birth does not read.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.birth = read_birth(storage)
        assert isinstance(self.birth.event, ExperimentCreated)
        self.experiment_id = self.birth.event.experiment_id
        self._open_pack: tuple[Pack, list[bytes]] | None = None

    def last_of(self, epoch: int) -> int | None:
        """None: what a slot holds is final, so no end of an epoch makes anything void that a snapshot could hold."""

    def look(self) -> Listing:
        """Lists the slots."""
        packs, numbers = [], []
        for name in self.storage.names(SLOTS):
            pack = Pack.of_name(name)
            if pack is not None:
                packs.append(pack)
            elif len(name) == 12 and name.isdecimal():
                numbers.append(int(name))
        inside = {it for it in packs for other in packs if it != other and other.first <= it.first and it.last <= other.last}
        return Listing(sorted(set(packs) - inside), sorted(numbers))

    def raw(self, number: int) -> bytes | None:
        """The bytes of a slot that has an object of its own; None where it has none."""
        try:
            return self.storage.read(slot_path(number))
        except FileNotFoundError:
            return None

    def slot(self, number: int) -> Slot | None:
        """A slot that has an object of its own; None where it has none."""
        data = self.raw(number)
        return None if data is None else decode(data, self.experiment_id, number, slot_path(number))

    def packed(self, pack: Pack) -> list[bytes]:
        """The bytes of the slots in a pack; the last one read is kept, for slots are read in order.

        Raises:
            FileNotFoundError: It has gone into a larger one meanwhile.
            JournalError: It does not read.
        """
        opened = self._open_pack
        if opened is None or opened[0] != pack:
            opened = self._open_pack = pack, decode_pack(self.storage.read(pack.path), self.experiment_id, pack)
        return opened[1]

    def follow(self, known: Slot, after: int = -1, until: Slot | None = None) -> Iterator[Slot]:
        """The slots behind `known`, each checked against the one before, up to the end as it is when it is reached.

        Args:
            known: The last one known, or `START`.
            after: Packs that hold nothing behind this position are passed over.
            until: The last one wanted, where the caller has it already: a driver's own claim.

        Raises:
            JournalError: A slot does not read, is missing or does not join.
        """
        listing = self.look()
        before: Slot | None = known
        number, position = known.number, known.next
        for pack in listing.packs:
            if number < pack.last and pack.position <= after:
                before, number, position = None, pack.last, pack.position + 1
        while True:
            number += 1
            if until is not None and number == until.number:
                slot: Slot | None = until
            else:
                slot, listing = self._next(listing, number)
            if slot is None:
                return
            _check(before, position, slot)
            before, position = slot, slot.next
            yield slot
            if slot is until:
                return

    def _next(self, listing: Listing, number: int) -> tuple[Slot | None, Listing]:
        """The slot of that number, None where there is none yet; and the newest listing."""
        slot = self._in_pack(listing, number)
        if slot is not None:
            return slot, listing
        slot = self.slot(number)
        if slot is None or slot.owner is not None:
            listing = self.look()
            slot = self._in_pack(listing, number) or slot
            if slot is None and listing.reach >= number:
                slot = self.slot(number)  # created meanwhile
                if slot is None:
                    raise JournalError(slot_path(number), 0, "the slot is missing, and a later one is there")
        return slot, listing

    def end(self) -> Slot:
        """The last slot, or `START`. Others may add to the chain at any time.

        Raises:
            JournalError: It does not read, or a slot before it is missing.
        """
        number = self._gallop(max(self._hinted(), self.look().reach))
        while True:
            listing = self.look()
            known = listing.reach
            if known > number:  # the hint is older than a pack, or others are at work
                number = self._gallop(known)
                continue
            self._refuse_holes(listing)
            slot = self.slot(number) if number else START
            if slot is not None:
                return slot
            if number > known:  # no hint of ours
                number = self._gallop(known)
            elif self.look().reach == number:  # the last slot goes into no pack
                raise JournalError(slot_path(number + 1), 0, "the slot is missing, and a pack ends right before it")

    def _gallop(self, low: int) -> int:
        """The last number that is taken, from `low` on, which is: by steps that double, then halve."""
        step = 1
        while self.raw(low + step) is not None:  # one request; to ask whether an object exists takes two where it does not
            low, step = low + step, 2 * step
        high = low + step
        while high - low > 1:
            middle = (low + high) // 2
            if self.raw(middle) is not None:
                low = middle
            else:
                high = middle
        return low

    def _hinted(self) -> int:
        """A number that was packed once; 0 where nothing says so. May be old: an object that is overwritten has no order."""
        try:
            text = self.storage.read(HINT)
        except FileNotFoundError:
            return 0
        return int(text) if text.isdigit() else 0

    def _refuse_holes(self, listing: Listing) -> None:
        there = {*listing.numbers}
        for number in range(1, max(listing.numbers, default=0)):
            if number in there or listing.holding(number) is not None:
                continue
            if self.raw(number) is None and self.look().holding(number) is None:  # a listing may lack what is there
                raise JournalError(slot_path(number), 0, "the slot is missing, and a later one is there")

    def _in_pack(self, listing: Listing, number: int) -> Slot | None:
        while (pack := listing.holding(number)) is not None:
            try:
                data = self.packed(pack)[number - pack.first]
            except FileNotFoundError:
                again = self.look()
                if again.holding(number) == pack:
                    raise JournalError(pack.path, 0, "the pack is listed and cannot be read") from None
                listing = again
            else:
                return decode(data, self.experiment_id, number, pack.path)
        return None


def _check(before: Slot | None, position: int, slot: Slot) -> None:
    """Whether a slot may stand behind the one before (None: not looked at)."""
    problem = ""
    if slot.first != position:
        problem = f"it begins at position {slot.first}; what comes before ends at {position - 1}"
    elif before is not None and slot.owner is not None and (slot.epoch, slot.claim) != (before.epoch + 1, slot.number):
        problem = f"it claims epoch {slot.epoch} behind epoch {before.epoch}"
    elif before is not None and slot.owner is None and (slot.epoch, slot.claim) != (before.epoch, before.claim):
        problem = f"it belongs to epoch {slot.epoch}, and the slot before to epoch {before.epoch}"
    elif before is not None and slot.owner is None and before.closes:
        problem = f"epoch {slot.epoch} was closed before it"
    if problem:
        raise JournalError(slot_path(slot.number), 0, problem)


def records_in(slot: Slot, after: int = -1) -> Iterator[Record]:
    """The records of a slot behind position `after`, decoded, each checked against its place.

    Raises:
        JournalError: A record stands where another belongs.
    """
    part = Part(slot_path(slot.number), slot.first, [memoryview(it) for it in slot.records], [0] * len(slot.records))
    return records_of([part], slot.epoch if slot.owner is None else slot.epoch - 1, after)
