"""One slot: a numbered object that is created once, whole, and never changes.

Knows a slot's bytes and its name. It refuses to know where slots are kept and in which order they are looked at.

A slot holds records of the driver in charge, or it is a claim: whoever creates it is in charge from there on, and the driver
before, which has just one number that it may take next, has lost that very number.
"""

from __future__ import annotations

import msgspec

from holdfast._journal import layout
from holdfast._journal.codec import unwrap, wrap
from holdfast._journal.lease import Owner
from holdfast.errors import JournalError

__all__ = ["HINT", "SLOTS", "START", "Pack", "Slot", "beat_path", "decode", "decode_pack", "encode", "encode_pack", "slot_path"]

SLOTS = f"{layout.JOURNAL}/slots"
HINT = f"{SLOTS}/hint"
_SLOT = ord("L")
_PACK = ord("K")


class Slot(msgspec.Struct, frozen=True, array_like=True):
    """The contents of a slot.

    Attributes:
        number: Its own, from 1.
        epoch: The epoch that it belongs to; that of a claim begins here.
        claim: The number of the claim of that epoch.
        first: The position of its first record.
        records: Records, encoded, in order. Those in a claim belong to the epoch before: its driver had acknowledged them on this
            machine and not put them into a slot.
        nonce: Random, so that no two slots are the same bytes.
        owner: Of a claim: the process that made it.
        closes: Whether the epoch is over in good order, with this slot.
    """

    number: int
    epoch: int
    claim: int
    first: int
    records: list[bytes]
    nonce: str
    owner: Owner | None = None
    closes: bool = False

    @property
    def next(self) -> int:
        """The position behind its last record."""
        return self.first + len(self.records)


START = Slot(0, 0, 0, 1, [], "", closes=True)
"""What stands before the first slot: the birth at position 0, and nobody in charge."""


class Pack(msgspec.Struct, frozen=True, order=True):
    """Many slots in one object, by its name.

    Attributes:
        first, last: The numbers of its first and last slot; it has all between.
        position: The position of its last record.
    """

    first: int
    last: int
    position: int

    @property
    def path(self) -> str:
        """Where it stands."""
        return f"{SLOTS}/{self.first:012d}-{self.last:012d}-{self.position:012d}.pack"

    @classmethod
    def of_name(cls, name: str) -> Pack | None:
        """The pack of that name among the slots; None where it is no pack's."""
        fields = name.removesuffix(".pack").split("-")
        if not name.endswith(".pack") or len(fields) != 3 or not all(map(str.isdecimal, fields)):
            return None
        return cls(*map(int, fields))


_encode = msgspec.msgpack.Encoder().encode
_decode_slot = msgspec.msgpack.Decoder(Slot).decode
_decode_pack = msgspec.msgpack.Decoder(list[bytes]).decode


def slot_path(number: int) -> str:
    """Where a slot stands."""
    return f"{SLOTS}/{number:012d}"


def beat_path(epoch: int) -> str:
    """The heartbeat of an epoch: an object whose value changes."""
    return f"{SLOTS}/{epoch:08d}.beat"


def encode(slot: Slot, experiment_id: str) -> bytes:
    """A slot's bytes."""
    return wrap(_SLOT, experiment_id, _encode(slot))


def decode(data: bytes, experiment_id: str, number: int, file: str) -> Slot:
    """The slot in bytes that were found in `file`.

    Raises:
        JournalTooNew: It was written by a later version.
        JournalError: It does not read, or belongs elsewhere.
    """
    payload = unwrap(_SLOT, experiment_id, data, file)
    try:
        slot = _decode_slot(payload)
    except msgspec.MsgspecError as error:
        raise JournalError(file, 0, f"a sound envelope with contents that do not read ({error})") from error
    if slot.number != number:
        raise JournalError(file, 0, f"slot {slot.number} stands in the place of slot {number}")
    return slot


def encode_pack(slots: list[bytes], experiment_id: str) -> bytes:
    """A pack's bytes, from those of its slots, in order."""
    return wrap(_PACK, experiment_id, _encode(slots))


def decode_pack(data: bytes, experiment_id: str, pack: Pack) -> list[bytes]:
    """The bytes of the slots in a pack.

    Raises:
        JournalError: It does not read, or has not as many as its name says.
    """
    slots = _decode_pack(unwrap(_PACK, experiment_id, data, pack.path))
    if len(slots) != pack.last - pack.first + 1:
        raise JournalError(pack.path, 0, f"it holds {len(slots)} slots, and its name says {pack.first} to {pack.last}")
    return slots
