"""Writing slots: taking the number that comes next, and packing behind it.

Knows one epoch's place in the chain. It refuses to know spools and when a group is due. One thread calls `put` at a time; who
reads `last` from another sees a number that is on the store.
"""

from __future__ import annotations

import os

from holdfast._journal.slots import packing
from holdfast._journal.slots.chain import Chain
from holdfast._journal.slots.slot import Slot, beat_path, encode, slot_path
from holdfast.errors import Fenced

__all__ = ["SlotWriter"]


class SlotWriter:
    """The slots of this driver's own epoch.

    Args:
        chain: The slots.
        claim: The claim of the epoch, on the store.
        packed: The last number that a pack has.

    Attributes:
        claim: As given.
        last: The number of the last slot that is on the store.
        durable: The position of its last record.
    """

    def __init__(self, chain: Chain, claim: Slot, packed: int) -> None:
        self._chain = chain
        self.claim = claim
        self._packed = packed
        self._beats = 0
        self.last = claim.number
        self.durable = claim.next - 1

    def put(self, payloads: list[bytes], *, closes: bool = False) -> None:
        """Takes the next slot. When it returns these records are durable.

        Raises:
            Fenced: A later driver's claim stands there.
            StorageError: The store refuses, or nobody knows: the slot may stand there, now or later. No other may follow it.
        """
        number = self.last + 1
        epoch, claim = self.claim.epoch, self.claim.number
        slot = Slot(number, epoch, claim, self.durable + 1, payloads, os.urandom(16).hex(), closes=closes)
        if not self._chain.storage.put_if_absent(slot_path(number), encode(slot, self._chain.experiment_id)):
            raise Fenced(self._chain.storage.root, epoch)
        self.last = number
        self.durable = slot.next - 1

    def next_is_free(self) -> bool:
        """Whether nobody has taken the slot that comes next. Only while no put is in flight."""
        return self._chain.raw(self.last + 1) is None

    def pack_if_due(self) -> None:
        """Packs when enough slots stand behind the last pack; errors as `packing.pack`."""
        if self.last - self._packed > packing.PACK_AT:
            self.pack()

    def pack(self) -> int:
        """Packs all but the last slot; returns how many went."""
        last = self.last - 1
        moved = packing.pack(self._chain, last)
        self._packed = last
        return moved

    def beat(self) -> None:
        """One heartbeat."""
        self._beats += 1
        self._chain.storage.put(beat_path(self.claim.epoch), b"%d" % self._beats)
